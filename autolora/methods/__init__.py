"""What is compared: AutoLoRA, its ablations and its rivals. A new one is a module that implements
`autolora.methods.base.Method`, and one line here."""

METHODS: dict[str, str] = {
    "autolora": "autolora.methods.autolora:AutoLora",
    "no-constraint": "autolora.methods.autolora:NoConstraint",
    "sigmoid": "autolora.methods.autolora:Sigmoid",
    "no-meta": "autolora.methods.autolora:NoMeta",
    "lora": "autolora.methods.uniform:Uniform",
    "lora-matched": "autolora.methods.uniform:Matched",
    "shuffled": "autolora.methods.chance:Shuffled",
    "random": "autolora.methods.chance:Random",
    "adalora": "autolora.methods.adalora:AdaLora",
    "svd": "autolora.methods.svd:Svd",
}
