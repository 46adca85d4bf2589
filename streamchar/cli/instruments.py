"""``streamchar instruments``: which cameras are understood, and what would be made of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from pydantic import BaseModel
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from streamchar.configuration import description_of
from streamchar.errors import StreamcharError
from streamchar.printable import as_markup

if TYPE_CHECKING:
    from streamchar.image import Exposure
    from streamchar.image.profiles import InstrumentProfile, ProfileSet

app = typer.Typer(
    help="Instrument profiles: how the FITS files of each camera become an exposure.", no_args_is_help=True
)

Directories = Annotated[
    list[Path] | None,
    typer.Option("--profiles", help="Folder with TOML files of further profiles; may be repeated."),
]


@app.command("list")
def list_profiles(profiles: Directories = None) -> None:
    """List the profiles that are known.

    Example: streamchar instruments list --profiles /etc/streamchar/instruments
    """
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("profile", no_wrap=True)
    table.add_column("for")
    for profile in sorted(_known(profiles).values(), key=lambda profile: (-profile.priority, profile.name)):
        table.add_row(profile.name, as_markup(profile.title))
    Console().print(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of a profile, or a TOML file.")],
    profiles: Directories = None,
) -> None:
    """Print a profile as TOML: to read, or to begin one of your own with.

    Example: streamchar instruments show plain > mycamera.toml
    """
    profile = _known(profiles).named(name)
    tree = profile.model_dump(mode="json", exclude_unset=True)
    tree.pop("extends", None)
    typer.echo("\n".join(_toml(tree, ())))


@app.command()
def explain() -> None:
    """Say what every setting of a profile means.

    Example: streamchar instruments explain | less
    """
    from streamchar.image.profiles import InstrumentProfile

    typer.echo("\n".join(_explained(InstrumentProfile)))


@app.command()
def check(
    file: Annotated[
        str, typer.Argument(help="FITS file or address; an extension may follow, as in file.fits#N4.")
    ],
    profile: Annotated[
        str | None, typer.Option(help="Use this profile (name or TOML file) instead of recognising it.")
    ] = None,
    profiles: Directories = None,
    gain: Annotated[float | None, typer.Option(help="Electrons per image unit.")] = None,
    rdnoise: Annotated[float | None, typer.Option(help="Read noise in electrons.")] = None,
) -> None:
    """Say which profiles recognise a file, and what the one in force makes of it.

    Exit code: 0 when the file becomes an exposure that can be characterized, 1 when not, with what is missing.

    Example: streamchar instruments check c4d_170316_062107_ooi_z_v1.fits.fz#N4
    """
    from streamchar.configuration import validate
    from streamchar.image.fits import ReadOptions, inspect_file, read_exposure

    console, errors = Console(soft_wrap=True, highlight=False), Console(stderr=True, highlight=False)
    known = _known(profiles)
    options = validate(ReadOptions, {"gain": gain, "read_noise": rdnoise}, "command line")
    try:
        inspected = inspect_file(file, known, profile, options)
        for line in inspected.lines:
            console.print(as_markup(line))
        exposure = read_exposure(file, options, profile=inspected.profile, profiles=known)
        console.print(_findings(inspected.profile, exposure))
        exposure.check()
    except StreamcharError as error:
        errors.print(f"[bold red]cannot be characterized:[/] {as_markup(str(error))}", soft_wrap=True)
        raise typer.Exit(code=1) from error
    console.print("[green]can be characterized[/]")


def _explained(model: type[BaseModel]) -> list[str]:
    """Lines about a model and, once each, those that it is made of."""
    lines, waiting, seen = [], [("profile", model)], {model}
    while waiting:
        title, current = waiting.pop(0)
        lines += ["", title, *_indented((current.__doc__ or "").partition("\n\n")[0], 2)]
        for name, field in current.model_fields.items():
            inner = _models(field.annotation)
            lines += [
                f"  {name}{' (' + inner[0].__name__ + ')' if inner else ''}",
                *_indented(description_of(current, name), 6),
            ]
            for found in inner:
                if found not in seen:
                    seen.add(found)
                    waiting.append((found.__name__, found))
    return lines[1:]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Models that an annotation names, however deep in unions and containers."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _indented(text: str | None, by: int) -> list[str]:
    return [" " * by + line.strip() for line in (text or "").replace("``", "'").splitlines()]


def _known(directories: list[Path] | None) -> ProfileSet:
    from streamchar.image.profiles import load_profiles

    return load_profiles(directories or [])


def _findings(profile: InstrumentProfile, exposure: Exposure) -> Table:
    import numpy as np

    identity, observation, scale = exposure.identity, exposure.observation, exposure.pixel_scale
    finite = np.isfinite(exposure.image)
    usable = np.isfinite(exposure.variance) & (exposure.variance > 0)
    keys = profile.keys
    rows: list[tuple[str, object, str]] = [
        ("pixels", f"{exposure.shape[1]} x {exposure.shape[0]} in {observation.unit}", _place(profile.image)),
        ("median", _number(float(np.median(exposure.image[finite])) if finite.any() else None), ""),
        (
            "noise",
            _number(float(np.sqrt(np.median(exposure.variance[usable]))) if usable.any() else None),
            f"{profile.variance.kind} in {_place(profile.variance)}"
            if profile.variance.kind != "noise"
            else "from gain and read noise",
        ),
        ("mask", _planes(exposure), _place(profile.mask) if profile.mask is not None else "none"),
        ("instrument", identity.instrument, _source(keys.instrument)),
        ("exposure", identity.exposure, _source(keys.exposure)),
        ("detector", identity.detector, _source(keys.detector)),
        ("band", identity.band or "unknown", _source(keys.band)),
        ("exposure time", _number(observation.exposure_time, " s"), _source(keys.exposure_time)),
        ("middle", _number(observation.mid_time, " MJD", 12), _source(keys.mid_time or keys.start_time)),
        ("gain", _number(observation.gain, " e-"), _source(keys.gain)),
        (
            "read noise",
            _number(observation.read_noise, " e-"),
            _source(keys.read_noise or keys.dark_variance),
        ),
        ("saturation", _number(observation.saturation), _source(keys.saturation)),
        (
            "coordinates",
            "none" if exposure.wcs is None else f"{exposure.wcs.wcs.ctype[0][5:]}, {scale:.4g}″ a pixel",
            "",
        ),
    ]
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("quantity", "value", "from"):
        table.add_column(name, overflow="fold")
    for name, value, source in rows:
        table.add_row(name, as_markup(str(value)), as_markup(source))
    return table


def _planes(exposure: Exposure) -> str:
    counts = {name: int(((exposure.mask >> bit) & 1).sum()) for name, bit in exposure.planes.items()}
    found = [f"{name} {count}" for name, count in counts.items() if count]
    return ", ".join(found) or "no pixel marked"


def _place(place: Any) -> str:
    name = place.hdu if isinstance(place.hdu, str | int) else " or ".join(place.hdu)
    return f"{place.file} file, extension {name}"


def _source(value: Any) -> str:
    if value is None:
        return ""
    if value.keys:
        return f" {'and' if value.combine != 'first' else 'or'} ".join(value.keys)
    if value.table is not None:
        return f"{value.table.file} file, column {value.table.column}"
    return "constant"


def _number(value: float | None, unit: str = "", digits: int = 5) -> str:
    return "unknown" if value is None else f"{value:.{digits}g}{unit}"


def _toml(tree: dict[str, Any], path: tuple[str, ...]) -> list[str]:
    lines = [f"{_key(name)} = {_scalar(value)}" for name, value in tree.items() if not _is_table(value)]
    if path and lines:
        lines = ["", f"[{'.'.join(path)}]", *lines]
    for name, value in tree.items():
        if isinstance(value, dict):
            lines += _toml(value, (*path, _key(name)))
        elif _is_table(value):
            for item in value:
                lines += ["", f"[[{'.'.join((*path, _key(name)))}]]"]
                lines += [f"{_key(key)} = {_scalar(inner)}" for key, inner in item.items()]
    return lines


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(item, dict) for item in value)
    )


def _key(name: str) -> str:
    plain = all(character.isascii() and (character.isalnum() or character in "-_") for character in name)
    return name if name and plain else _scalar(name)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(_scalar, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_scalar(item)}" for key, item in value.items()) + " }"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + text.replace("\n", "\\n").replace("\t", "\\t") + '"'
