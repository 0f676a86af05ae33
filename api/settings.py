"""Settings of this installation, from `PARETOFORMER_*`; read here and nowhere below.

A server bound to anything but loopback needs a key in the database: `api.app.check_binding`.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from space.errors import InvalidInputError


class Settings(BaseSettings):
    """Command line options of the same name go before."""

    model_config = SettingsConfigDict(env_prefix="PARETOFORMER_", frozen=True, extra="ignore")

    db: str = Field("sqlite:///paretoformer.db", description="Address of the database")
    data: str | None = Field(
        None, description="Folder or fsspec URL of trainings and exports; beside the database if unset"
    )
    durability: Literal["normal", "full"] = Field(
        "normal", description="full: SQLite keeps every acknowledged write through a loss of power"
    )
    host: str = Field("127.0.0.1", description="Address the server listens on")
    port: int = Field(8765, ge=0, le=65535, description="Port the server listens on; 0 takes a free one")
    hosts: tuple[str, ...] = Field((), description="Further host names the server answers to, JSON list")
    workers: int | None = Field(None, ge=1, description="Workers per coordinator; the cores if unset")
    worker_memory: int | None = Field(
        None, ge=500_000_000, description="Bytes a worker may have; its share of its machine if unset"
    )
    ray: str = Field("local", description="local, none, or the address of a Ray cluster")
    datasets: Path | None = Field(None, description="Folder whose files and folders HTTP jobs may name")
    body_limit: int = Field(1_000_000, ge=1024, description="Largest request body, bytes")
    dataset_limit: int = Field(10**9, ge=1024, description="Largest uploaded data set, bytes")
    dataset_quota: int = Field(10**10, ge=0, description="Bytes of data sets a tenant may store")
    job_quota: int = Field(20_000, ge=0, description="Jobs of a tenant that have not ended")
    trial_quota: int = Field(100_000, ge=1, description="Trials a job over HTTP may ask for")
    export_quota: int = Field(100, ge=0, description="Exports of a tenant that are not written yet")
    export_bytes: int = Field(10**11, ge=0, description="Bytes of exports a tenant may store")
    rate_limit: float = Field(100.0, ge=0, description="Requests per second and key; 0 sets no limit")
    stream_limit: int = Field(32, ge=1, description="Event streams open per key")
    heartbeat_s: float = Field(15.0, gt=0, description="Seconds between comments of an idle event stream")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged")
    log_format: Literal["text", "json"] = Field("text", description="Form of log lines")


def load_settings() -> Settings:
    """The settings of the environment.

    Raises:
        InvalidInputError: a variable has an impossible value; the message names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = [
            f"{Settings.model_config.get('env_prefix')}{problem['loc'][0]}".upper()
            + f": {problem['msg'].lower()}"
            for problem in error.errors()
        ]
        raise InvalidInputError("\n".join(problems)) from error
    except SettingsError as error:
        raise InvalidInputError(f"settings: {error}") from error
