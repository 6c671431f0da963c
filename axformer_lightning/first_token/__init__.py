"""SKIP: if the head of a model reads the first token only, compute nothing else in the layers at the top.

Tokens mix in attention alone. So the highest layer that attends needs the keys and values of all tokens, but only the
first token's query, context, output projection and feed-forward; the layers above it need only the first token. Where
modules of transformers reshape by the number of tokens, values that are not computed keep their place, void.
"""

from axformer_lightning.first_token.inference import reads_first_token_only, set_first_token_
from axformer_lightning.first_token.skipping import can_ask_once, reading_first_token, top_layer

__all__ = ["can_ask_once", "reading_first_token", "reads_first_token_only", "set_first_token_", "top_layer"]
