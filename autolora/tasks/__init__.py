"""Task families: what a recipe's `task` may be. A new one implements `autolora.tasks.base.Task`."""
