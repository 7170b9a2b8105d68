"""What the volume room remembers."""

import msgspec

from gantry.model.volume import Volume
from gantry.ports import Table


class VolumeRecord(msgspec.Struct, frozen=True):
    """A volume; `mounted_for` are the containers for which its driver options are mounted now.

    `removing` says that it is to be removed: what of it is left goes at the next start.
    """

    volume: Volume
    mounted_for: tuple[str, ...] = ()
    removing: bool = False


VOLUMES = Table("volumes", VolumeRecord)
