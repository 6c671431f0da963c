"""What this package hangs on objects of others, all in one list.

Attributes of plain modules: they are copied and pickled with them, and no `state_dict` knows of them.
"""

MARKS = {
    "axformer_plan": "on a transformer: the plan by which it was cut; None once it is restored",
    "axformer_original": "on a transformer: its layers before any cut, without weights, for an older checkpoint",
    "axformer_first_token": "on a transformer that computes only what its first token needs: its anatomy",
    "axformer_heads": "on an attention module: the original numbers of the heads that are left, for a bias per head",
    "axformer_hard_attention": "on an attention module: its settings, where it attends hard",
    "axformer_config": "on an attention module that attends hard: the config that it shares with the other layers",
    "axformer_all_queries": "on an attention module: the config that the first-token rule replaces for a time",
    "axformer_follows_workers": "on a LightningModule: it is cut when processes hand back what they have trained",
}
