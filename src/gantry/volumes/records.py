"""What the volume room remembers."""

import msgspec

from gantry.model.volume import Volume
from gantry.ports import Table


class VolumeRecord(msgspec.Struct, frozen=True):
    """A volume; `mounted_for` are the containers for which its driver options are mounted now.

    `removing` says that it is to be removed: what of it is left goes at the next start. `renamed_from` is the name
    that its directory may still have.
    """

    volume: Volume
    mounted_for: tuple[str, ...] = ()
    removing: bool = False
    renamed_from: str = ""


VOLUMES = Table("volumes", VolumeRecord)
