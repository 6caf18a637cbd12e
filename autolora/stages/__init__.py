"""The stages of an experiment, one module each; `autolora.pipeline` lines them up."""
