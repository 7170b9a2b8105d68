"""What events tell of containers."""

from gantry.model.container import Container


def event_attributes(container: Container, **more: str) -> dict[str, str]:
    """What every event of a container carries: its labels, its image, its name."""
    image = {"image": container.image_ref} if container.image_ref else {}
    return {**(container.config.labels or {}), **image, "name": container.name, **more}
