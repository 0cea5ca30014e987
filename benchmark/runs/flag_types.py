"""Types of flags: how the help names their values, and whether it says their default.

The help shows a default once. Where it is None, False or empty, tyro is told to be silent (UNSAID), and the flag's own
text says what happens without it, if that is not plain.
"""

from pathlib import Path
from typing import Annotated, Any, TypeAlias

from tyro.conf import arg

UNSAID: Any = arg(help_behavior_hint="")
"""No "(default: ...)" after the flag's text."""

Flag: TypeAlias = Annotated[bool, UNSAID]
Count: TypeAlias = Annotated[int | None, arg(metavar="N"), UNSAID]
Seconds: TypeAlias = Annotated[float | None, arg(metavar="SECONDS"), UNSAID]
Folder: TypeAlias = Annotated[Path, arg(metavar="DIR")]
MaybeFolder: TypeAlias = Annotated[Path | None, arg(metavar="DIR"), UNSAID]
MaybeFile: TypeAlias = Annotated[Path | None, arg(metavar="FILE"), UNSAID]
Files: TypeAlias = Annotated[tuple[Path, ...], arg(metavar="FILE ..."), UNSAID]
Names: TypeAlias = Annotated[tuple[str, ...], arg(metavar="NAME ...")]
Domains: TypeAlias = Annotated[tuple[str, ...], arg(metavar="DOMAIN ..."), UNSAID]
Settings: TypeAlias = Annotated[tuple[str, ...], arg(metavar="NAME.FIELD=VALUE ..."), UNSAID]
