"""What imports what: no circle, nothing upwards, and nothing but the four requirements."""

import subprocess
import sys
import textwrap

import pytest

import imports


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_circle_and_nothing_upwards(capsys):
    assert imports.main() == 0
    assert "vae_core.training" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("vae_core/elbo.py", "from vae_core.vae import VAE"),  # a circle
        ("vae_core/images.py", "import vae_book.data"),  # upwards
        ("vae_core/images.py", "from vae_book import data"),
    ],
)
def test_a_circle_and_an_import_upwards_are_found(tmp_path, monkeypatch, capsys, file, line):
    for path in imports.SRC.glob("vae_*/*.py"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        (tmp_path / path.parent.name / path.name).write_bytes(path.read_bytes())
    planted = tmp_path / file
    planted.write_text(planted.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    graph = imports.graph
    monkeypatch.setattr(imports, "graph", lambda: graph(tmp_path))
    assert imports.main() == 1


def test_vae_core_needs_torch_numpy_safetensors_and_tqdm_alone():
    """To be imported, to train and to evaluate."""
    out = run(
        """
        import importlib, pkgutil, sys
        import numpy, safetensors.torch, torch, tqdm
        torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # it imports more of PyTorch
        before = {name.partition(".")[0] for name in sys.modules}
        for name in ("matplotlib", "pooch", "requests", "PIL", "IPython", "vae_book"):
            sys.modules[name] = None  # importing it fails
        import vae_core
        from vae_core import VAE, estimate_elbo, fit
        for module in pkgutil.iter_modules(vae_core.__path__):
            importlib.import_module(f"vae_core.{module.name}")
        images = torch.randint(0, 256, (64, 4, 4)).to(torch.uint8)
        vae = VAE(2, hidden=(8,), n_pixels=16)
        history = fit(vae, images, val=images, steps=3, batch_size=16)
        estimate_elbo(vae, images, binarisation="grey")
        after = {name.partition(".")[0] for name, module in sys.modules.items() if module}
        print(history._repr_png_(), *sorted(after - before - sys.stdlib_module_names))
        """
    )
    assert out.splitlines()[-1].split() == ["None", "vae_core"]
