"""What docstrings write as Sphinx does, for the site: :func:`~package.name` becomes a link, examples become code."""

import re
from functools import partial

import griffe

ROLE = re.compile(r":(?:class|data|func|meth|mod):`(~?)([\w.]+)`")


class Docstrings(griffe.Extension):
    """Turns roles into links where the site has the object, and into code elsewhere."""

    def on_object(self, *, obj, **_):
        if obj.docstring is not None:
            text = ROLE.sub(partial(reference, obj), obj.docstring.value)
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.M)


def reference(obj, role):
    short, name = role.groups()
    shown = name.rpartition(".")[2] if short else name
    try:
        path = name if name.startswith("axformer_lightning.") else obj.resolve(name)
    except griffe.NameResolutionError:  # of another package
        path = name
    return f'<autoref identifier="{path}" optional><code>{shown}</code></autoref>'
