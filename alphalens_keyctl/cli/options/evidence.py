"""Options of the commands about heads: whose key signs one, and whose signature counts."""

from typing import Annotated

import typer

HeadOption = Annotated[
    str | None,
    typer.Option(
        "--head",
        metavar="FILE",
        show_default=False,
        help="A head that was saved, as 'audit head --json' printed it, or a checkpoint; - reads stdin.",
    ),
]
SignOption = Annotated[
    str | None,
    typer.Option(
        "--sign",
        metavar="FILE",
        show_default=False,
        help="Sign the head with this ssh key; with a public key, the ssh agent signs.",
    ),
]
OriginOption = Annotated[
    str | None,
    typer.Option(
        "--origin",
        metavar="NAME",
        show_default=False,
        help="The log's name in the checkpoint, such as example.com/keys. Default: by its first event.",
    ),
]
SignersOption = Annotated[
    str | None,
    typer.Option(
        "--signers",
        metavar="FILE",
        show_default=False,
        help="Refuse a head that is not signed by a key of this file, an 'allowed_signers' of ssh.",
    ),
]
SignerOption = Annotated[
    str | None,
    typer.Option(
        "--signer",
        metavar="NAME",
        show_default=False,
        help="Refuse a head that is not signed by this name of --signers.",
    ),
]
