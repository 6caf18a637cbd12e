"""autolora inside the training loops of other packages: callbacks for transformers, TRL and Lightning."""
