"""For tools that ask for a setup.py: the licence's name, and what Python runs at its start."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithStartup(build_py):
    """Puts beside the package what Python runs when it starts (see realesrgan/models/startup.py)."""

    def _startup(self):
        return [Path(self.build_lib) / name for name in ("_realesrgan_startup.py", "realesrgan.pth")]

    def run(self):
        super().run()
        module, line = self._startup()
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_bytes((Path(__file__).parent / "realesrgan" / "models" / "startup.py").read_bytes())
        line.write_text("import _realesrgan_startup\n", encoding="utf-8")

    def get_outputs(self, include_bytecode=1):
        return [*super().get_outputs(include_bytecode), *map(str, self._startup())]


setup(license="BSD-3-Clause", cmdclass={"build_py": BuildWithStartup})
