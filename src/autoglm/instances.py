"""The instances that the settings want, and the models of the local ones."""

from pathlib import Path

from autoglm.core.ports import Provider
from autoglm.inference.models import ModelFolder, pull_words
from autoglm.inference.providers.address import AddressProvider
from autoglm.inference.providers.discovery import Discovery
from autoglm.inference.providers.local import LocalFleet
from autoglm.inference.providers.ray_serve import RayServe
from autoglm.inference.scheduler import Scheduler
from autoglm.inference.settings import InstanceSettings
from autoglm.invocation import data_option
from autoglm.settings import Settings


def model_folder(settings: Settings, data_dir: Path) -> ModelFolder:
    return ModelFolder(settings.models.folder or data_dir / "models", data_option=data_option(data_dir))


def instances_to_run(settings: Settings, folder: ModelFolder) -> tuple[InstanceSettings, ...]:
    """The configured instances; when none are, one local instance of the default model, or of another here."""
    if settings.instance or settings.discovery or settings.ray:
        return settings.instance
    here = [model.name for model in folder.list()]
    name = settings.models.default if settings.models.default in here else next(iter(here), None)
    return () if name is None else (InstanceSettings(name=name[:64], provider="local", models=(name,)),)


def missing_models(settings: Settings, folder: ModelFolder) -> dict[str, str]:
    """Models that local instances shall serve and that are not in the folder: name to the words that bring it here."""
    wanted = [entry.models[0] for entry in settings.instance if entry.provider == "local"]
    return {name: pull_words(name) for name in wanted if folder.get(name) is None}


def add_instances(settings: Settings, folder: ModelFolder, scheduler: Scheduler) -> tuple[LocalFleet, list[Provider]]:
    """Tell the scheduler of all instances. Returns the local ones, and all providers, whose `run` keeps them up."""
    wanted = instances_to_run(settings, folder)
    local = [entry for entry in wanted if entry.provider == "local"]
    fleet = LocalFleet(local, settings.pool, settings.scaling, folder, scheduler)
    providers: list[Provider] = []
    for entry in wanted:
        if entry.provider == "local":
            scheduler.add(fleet.instance(entry.name))
            continue
        provider = AddressProvider(entry, settings.pool)
        scheduler.add(provider.instance)
        providers.append(provider)
    if local:
        providers.append(fleet)
    providers += [Discovery(group, settings.pool, scheduler) for group in settings.discovery]
    for cluster in settings.ray:
        path = (folder if cluster.folder is None else ModelFolder(cluster.folder)).file(cluster.model)
        providers.append(RayServe(cluster, settings.pool, scheduler, path))
    return fleet, providers
