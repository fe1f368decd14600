"""The folder of --config-dir as Hydra reads it: only a file that is chosen, with a bound, and checked to be data."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from fmnist_sweep.config.foreign import check_config_file
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.reading import RefusedFile, SwollenText, parse_yaml, read_file

MAX_CONFIG_BYTES = 2**18  # a config has some thousand
_HEADER_CHARACTERS = 512  # in which Hydra looks for a package


class BoundedFolder(ConfigSource):
    """A folder of configs; Hydra's own source reads a file whatever its size."""

    @staticmethod
    def scheme() -> str:
        return "bounded"

    def load_config(self, config_path: str) -> ConfigResult:
        """Load a chosen file. Raises ConfigError if it would fill the memory, or could make Hydra run code."""
        name = self._normalize_file_name(config_path)
        path = self._locate(name)
        try:
            text = read_file(path, MAX_CONFIG_BYTES).decode()
            if "&" in text and "*" in text:  # OmegaConf copies what an alias stands for, each time
                _refuse_swollen(text)
        except (RefusedFile, SwollenText, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, RefusedFile) else str(error)
            raise ConfigError(f"{path}: {reason}; expected settings of a study: mend or remove that file.") from None
        except OSError as error:
            raise ConfigError(f"{path}: it cannot be read ({error.strerror}); correct its permissions.") from None
        check_config_file(path, name, text)
        named = io.StringIO(text)
        named.name = str(path)  # for what the YAML parser says
        config: Any = OmegaConf.load(named)
        header = ConfigSource._get_header_dict(text[:_HEADER_CHARACTERS])
        return ConfigResult(config=config, path=f"{self.scheme()}://{self.path}", provider=self.provider, header=header)

    def available(self) -> bool:
        return self.is_group("")

    def is_group(self, config_path: str) -> bool:
        return self._locate(config_path).is_dir()

    def is_config(self, config_path: str) -> bool:
        return self._locate(self._normalize_file_name(config_path)).is_file()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The names of the options and groups in a group."""
        names: list[str] = []
        for path in self._locate(config_path).iterdir():
            self._list_add_result(
                files=names,
                file_path=str(Path(config_path, path.name)),
                file_name=path.name,
                results_filter=results_filter,
            )
        return sorted(set(names))

    def _locate(self, config_path: str) -> Path:
        return Path(os.path.realpath(Path(self.path, config_path)))  # as Hydra's own source does


def _refuse_swollen(text: str) -> None:
    try:
        parse_yaml(text)
    except SwollenText:
        raise
    except ValueError:  # OmegaConf says so
        return
