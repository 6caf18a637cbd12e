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
    "eva": "autolora.methods.eva:Eva",
    "lora-grid": "autolora.methods.grid:Grid",
    "full": "autolora.methods.subset:Full",
    "head": "autolora.methods.subset:Head",
    "bitfit": "autolora.methods.subset:BitFit",
    "houlsby": "autolora.methods.bottleneck:Houlsby",
    "pfeiffer": "autolora.methods.bottleneck:Pfeiffer",
    "prefix": "autolora.methods.prefix:Prefix",
}
