"""The page itself, drawn with Gradio. It computes nothing: :mod:`realesrgan.tools.web.jobs` does, with the program."""

from __future__ import annotations

import time
from html import escape
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import fastapi
import gradio as gr
from fastapi.responses import RedirectResponse

from realesrgan.cli import messages
from realesrgan.errors import RealESRGANError, as_field

from .access import language
from .jobs import Desk, Job, Progress, as_shown, copied, zipped
from .words import KINDS, VIDEO_KINDS, words

__all__ = ["build"]

_EVERY = 0.3
"""Seconds between looks at a run."""
_LARGEST_UPLOAD = 2 * 2**30
_EVENT: Dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}
"""How the page hears of a click: the page itself shows how far a run is, and runs wait for each other elsewhere."""
_VIDEOS = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".gif", ".webp", ".ts", ".m4v")
_FONTS = ["system-ui", "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans CJK KR", "sans-serif"]
_STYLE = """
.gradio-container {max-width: 1100px !important; margin: 0 auto;}
.run-bar {height: 14px; border-radius: 7px; background: var(--background-fill-secondary); overflow: hidden;
  border: 1px solid var(--border-color-primary);}
.run-bar > div {height: 100%; background: var(--color-accent); transition: width .3s;}
.run-problem {color: var(--error-text-color, #b91c1c); overflow-wrap: anywhere;}
#report textarea, #measured textarea {font-family: ui-monospace, Consolas, monospace; font-size: .8rem;}
.run-note {opacity: .85; overflow-wrap: anywhere;}
@media (max-width: 480px) {.gradio-container {padding: 6px !important;}}
"""
# Pictures that are pasted go the way of pictures that are chosen.
_PASTE = """<script>
document.addEventListener('paste', (event) => {
  const given = [...(event.clipboardData?.files ?? [])];
  const input = document.querySelector('#pictures input[type=file]');
  if (!given.length || !input) return;
  const carrier = new DataTransfer();
  given.forEach((file) => carrier.items.add(file));
  input.files = carrier.files;
  input.dispatchEvent(new Event('change', {bubbles: true}));
});
</script>"""


def build(
    token: str, folder: Path, *, password: Optional[str], weights_from: str, local: bool
) -> Tuple[fastapi.FastAPI, Desk]:
    """The application, with a page for each language under ``/<token>/``, and the desk that runs its work.

    Args:
        folder: Where runs put their files.
        password: Asked for where it is given.
        local: The user sits at this machine: results can be saved into its folders.
    """
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    desk = Desk(folder / "runs", weights_from)
    desk.root.mkdir()

    @app.get(f"/{token}")
    @app.get(f"/{token}/")
    def choose(request: fastapi.Request) -> RedirectResponse:
        lang = language(request.headers.get("accept-language", ""))
        return RedirectResponse(f"/{token}/{lang}/")

    for lang in messages.LANGUAGES:
        gr.mount_gradio_app(
            app,
            _Page(desk, lang, local).blocks,
            path=f"/{token}/{lang}",
            auth=("realesrgan", password) if password else None,
            allowed_paths=[str(folder)],
            max_file_size=_LARGEST_UPLOAD,
            footer_links=[],
            show_error=True,
            ssr_mode=False,
            theme=gr.themes.Default(font=_FONTS, font_mono=["ui-monospace", "Consolas", "monospace"]),
            css=_STYLE,
            head=_PASTE,
        )
    return app, desk


class _Page:
    """The page in one language."""

    def __init__(self, desk: Desk, lang: str, local: bool) -> None:
        self.desk = desk
        self.lang = lang
        self.local = local
        self.words = words(lang)
        with gr.Blocks(title=self.words["title"], analytics_enabled=False, delete_cache=(600, 3600)) as self.blocks:
            gr.Markdown(f"# {self.words['title']}\n{self.words['local']}")
            with gr.Tab(self.words["pictures"]):
                self._pictures()
            with gr.Tab(self.words["video"]):
                self._video()
            with gr.Tab(self.words["machine"]) as tab:
                self._machine(tab)

    # ---------------------------------------------------------------------------------------------------- pictures

    def _pictures(self) -> None:
        say = self.words
        run = gr.State("")
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                given = gr.File(label=say["drop"], file_count="multiple", elem_id="pictures", height=180)
                kind, times = self._choices(KINDS)
                with gr.Accordion(say["advanced"], open=False):
                    advanced = self._advanced()
                with gr.Row():
                    start = gr.Button(say["start"], variant="primary", elem_id="start")
                    stop = gr.Button(say["stop"], variant="stop", interactive=False, elem_id="stop")
            with gr.Column(scale=2, min_width=300):
                status = gr.HTML(elem_id="status")
                shown = gr.Dropdown([], label=say["show"], visible=False, interactive=True, elem_id="shown")
                slider = gr.ImageSlider(
                    label=say["compare"],
                    type="filepath",
                    format="png",
                    interactive=False,
                    max_height=640,
                    visible=False,
                    elem_id="slider",
                    buttons=["download", "fullscreen"],
                )
                results = gr.File(label=say["results"], file_count="multiple", visible=False, elem_id="results")
                archive = gr.DownloadButton(say["zip"], visible=False, elem_id="zip")
                with gr.Row(visible=False, elem_id="saving") as saving:
                    target = gr.Textbox(label=say["save_to"], scale=3, elem_id="folder")
                    save = gr.Button(say["save"], scale=1, elem_id="save")
        start.click(
            self._start_pictures,
            [given, kind, times, *advanced],
            [run, status, start, stop, shown, slider, results, archive, saving],
            trigger_mode="multiple",
            **_EVENT,
        )
        self._on(stop.click, self._stop, [run])
        self._on(shown.input, self._compare, [run, shown], [slider])
        self._on(save.click, self._save, [run, target], [status])

    def _choices(self, kinds: Sequence[Tuple[str, str]]) -> Tuple[Any, Any]:
        say = self.words
        first = kinds[0][1]
        kind = gr.Radio([(say[name], model) for name, model in kinds], value=first, label=say["kind"])
        model = gr.HTML(f"<small>{first}</small>", padding=False)
        kind.change(None, [kind], [model], js="(name) => `<small>${name}</small>`", api_visibility="private")
        times = gr.Radio([("2x", 2), ("3x", 3), ("4x", 4)], value=4, label=say["times"])
        return kind, times

    def _advanced(self) -> List[Any]:
        say = self.words
        return [
            gr.Dropdown(
                ["auto", "directml", "cuda", "vulkan", "xpu", "mps", "cpu"],
                value="auto",
                label=say["device"],
                allow_custom_value=True,
            ),
            gr.Number(value=0, minimum=0, maximum=8192, precision=0, label=say["tile"]),
            gr.Radio([(say["auto"], ""), ("FP32", "--fp32"), ("FP16", "--fp16")], value="", label=say["precision"]),
            gr.Checkbox(label=say["faces"]),
            gr.Slider(0, 1, value=0.5, step=0.05, label=say["denoise"]),
            gr.Radio([(say["auto"], "auto"), "png", "jpg", "webp", "tiff"], value="auto", label=say["format"]),
            gr.Slider(1, 100, value=95, step=1, label=say["quality"]),
            gr.File(label=say["own_model"], file_types=[".pth", ".pt", ".safetensors"], height=110),
        ]

    def _start_pictures(
        self,
        given: Optional[List[str]],
        kind: str,
        times: float,
        device: str,
        tile: float,
        precision: str,
        faces: bool,
        denoise: float,
        format_: str,
        quality: float,
        own: Optional[str],
    ) -> Iterator[Tuple[Any, ...]]:
        if not given:
            yield ("", self._html(Progress("failed", lines=((self.words["nothing"], True),))), *[gr.skip()] * 7)
            return
        flags = [*self._common(kind, times, device, tile, precision, faces, own), "--ext", format_]
        flags += ["--jpeg-quality", str(int(quality))]
        if kind == "realesr-general-x4v3":
            flags += ["-dn", f"{denoise:g}"]
        job = self.desk.pictures([Path(path) for path in given], flags, self.lang)
        hidden = gr.update(visible=False)
        yield job.name, self._html(job.progress), *self._buttons(True), hidden, hidden, hidden, hidden, hidden
        count = 0
        for progress in self._watch(job):
            found = progress.results
            shown = slider = gr.skip()
            if len(found) != count:
                names = [result.after.name for result in found]
                shown = gr.update(choices=names, visible=len(names) > 1, **({} if count else {"value": names[0]}))
                if not count:
                    slider = gr.update(value=self._pair(job, 0), visible=True)
                count = len(found)
            more = (gr.skip(), gr.skip(), gr.skip())
            if progress.ended and found:
                more = (
                    gr.update(value=[str(result.after) for result in found], visible=True),
                    gr.update(value=str(zipped(found, job.folder / "realesrgan.zip")), visible=len(found) > 1),
                    gr.update(visible=self.local),
                )
            yield job.name, self._html(progress, run=job.name), *self._buttons(not progress.ended), shown, slider, *more

    @staticmethod
    def _common(
        kind: str, times: float, device: str, tile: float, precision: str, faces: bool, own: Optional[str]
    ) -> List[str]:
        flags = ["-n", kind, "-s", f"{times:g}", "-t", str(int(tile or 0)), "--device", device.strip() or "auto"]
        flags += [precision] if precision else []
        flags += ["--face_enhance"] if faces else []
        return flags + (["--model_path", own] if own else [])

    @staticmethod
    def _buttons(running: bool) -> Tuple[Any, Any]:
        return gr.update(interactive=not running), gr.update(interactive=running)

    def _watch(self, job: Job) -> Iterator[Progress]:
        """Each new state of a run, the last one included. A page that is closed stops its run."""
        seen: Optional[Progress] = None
        try:
            while seen is None or not seen.ended:
                if job.progress is seen:
                    time.sleep(_EVERY)
                    continue
                seen = job.progress
                yield seen
                if not seen.ended:
                    time.sleep(_EVERY)
        finally:
            if not job.progress.ended:
                job.stop()

    def _pair(self, job: Job, index: int) -> Tuple[str, str]:
        result = job.progress.results[index]
        return str(as_shown(result.before, job.folder)), str(as_shown(result.after, job.folder))

    def _compare(self, run: str, name: str) -> Any:
        job = self.desk.job(run)
        for index, result in enumerate(job.progress.results if job else ()):
            if job and result.after.name == name:
                return gr.update(value=self._pair(job, index))
        return gr.skip()

    def _stop(self, run: str) -> None:
        job = self.desk.job(run)
        if job is not None:
            job.stop()

    def _save(self, run: str, folder: str) -> str:
        job = self.desk.job(run)
        if job is None or not self.local:
            return ""
        try:
            count = copied(job.progress.results, Path(folder.strip().strip('"')))
        except (RealESRGANError, OSError) as error:
            sentence = error if isinstance(error, RealESRGANError) else as_field(error)
            return self._html(job.progress, (messages.render(sentence, self.lang), True))
        return self._html(job.progress, (self.words["saved"].format(count=count, folder=folder), False))

    # ------------------------------------------------------------------------------------------------------- video

    def _video(self) -> None:
        say = self.words
        run = gr.State("")
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                given = gr.File(label=say["drop_video"], file_types=list(_VIDEOS), elem_id="clip", height=140)
                kind, times = self._choices(VIDEO_KINDS)
                codec = gr.Radio(["h264", "hevc", "av1", "ffv1"], value="h264", label=say["codec"])
                preview = gr.Button(say["preview"], elem_id="preview")
                with gr.Row():
                    start = gr.Button(say["start"], variant="primary", elem_id="start-video")
                    pause = gr.Button(say["pause"], interactive=False, elem_id="pause-video")
                    stop = gr.Button(say["stop"], variant="stop", interactive=False, elem_id="stop-video")
            with gr.Column(scale=2, min_width=300):
                status = gr.HTML(elem_id="status-video")
                frames = gr.Gallery(label=say["preview"], columns=1, visible=False, elem_id="frames")
                player = gr.Video(label=say["video"], visible=False, elem_id="player", interactive=False)
                results = gr.File(label=say["results"], visible=False, elem_id="results-video")
        inputs = [given, kind, times, codec]
        outputs = [run, status, start, pause, stop, frames, player, results]
        for button, call in ((start, self._start_video), (preview, self._start_preview)):
            button.click(call, inputs, outputs, trigger_mode="multiple", **_EVENT)
        self._on(stop.click, self._stop, [run])
        self._on(pause.click, self._pause, [run], [pause])

    def _start_video(self, given: Optional[str], kind: str, times: float, codec: str) -> Iterator[Tuple[Any, ...]]:
        yield from self._run_video(given, kind, times, codec, False)

    def _start_preview(self, given: Optional[str], kind: str, times: float, codec: str) -> Iterator[Tuple[Any, ...]]:
        yield from self._run_video(given, kind, times, codec, True)

    def _run_video(
        self, given: Optional[str], kind: str, times: float, codec: str, preview: bool
    ) -> Iterator[Tuple[Any, ...]]:
        say = self.words
        if not given:
            yield ("", self._html(Progress("failed", lines=((say["nothing_video"], True),))), *[gr.skip()] * 6)
            return
        job = self.desk.video(Path(given), ["-n", kind, "-s", f"{times:g}", "--codec", codec], self.lang, preview)
        for progress in self._watch(job):
            running = not progress.ended
            start, stop = self._buttons(running)
            pause = gr.update(interactive=running, value=say["resume" if progress.state == "paused" else "pause"])
            frames = player = results = gr.skip()
            done = [str(result.after) for result in progress.results]
            if done and preview:
                frames = gr.update(value=done, visible=True)
            elif done:
                player, results = gr.update(value=done[0], visible=True), gr.update(value=done[0], visible=True)
            yield job.name, self._html(progress), start, pause, stop, frames, player, results

    def _pause(self, run: str) -> Any:
        job = self.desk.job(run)
        if job is None:
            return gr.skip()
        paused = job.progress.state != "paused"
        job.pause(paused)
        return gr.update(value=self.words["resume" if paused else "pause"])

    # ----------------------------------------------------------------------------------------------------- machine

    def _machine(self, tab: Any) -> None:
        say = self.words
        run, looked = gr.State(""), gr.State(False)
        status = gr.HTML(label=say["verdict"], elem_id="verdict")
        report = gr.Textbox(label=say["report"], lines=18, max_lines=30, buttons=["copy"], elem_id="report")
        look = gr.Button(say["look"], elem_id="look")
        with gr.Row():
            seconds = gr.Slider(30, 1200, value=240, step=10, label=say["tune_seconds"])
            tune = gr.Button(say["tune"], elem_id="tune")
            stop = gr.Button(say["stop"], variant="stop", interactive=False)
        tuning = gr.HTML()
        measured = gr.Textbox(label=say["tuning"], lines=6, max_lines=20, visible=False, elem_id="measured")
        tab.select(self._first_look, [looked], [looked, status, report], **_EVENT)
        look.click(self._look, None, [status, report], **_EVENT)
        tune.click(self._tune, [seconds], [run, tuning, tune, stop, measured], **_EVENT)
        self._on(stop.click, self._stop, [run])

    def _first_look(self, looked: bool) -> Iterator[Tuple[Any, ...]]:
        if looked:
            yield True, gr.skip(), gr.skip()
            return
        for status, report in self._look():
            yield True, status, report

    def _look(self) -> Iterator[Tuple[Any, Any]]:
        job = self.desk.doctor(self.lang)
        for progress in self._watch(job):
            yield self._html(progress), job.text if progress.ended else gr.skip()

    def _tune(self, seconds: float) -> Iterator[Tuple[Any, ...]]:
        job = self.desk.tune(int(seconds), self.lang)
        for progress in self._watch(job):
            start, stop = self._buttons(not progress.ended)
            yield job.name, self._html(progress), start, stop, gr.update(value=job.text, visible=True)

    # ------------------------------------------------------------------------------------------------------ shared

    @staticmethod
    def _on(event: Any, call: Any, inputs: List[Any], outputs: Optional[List[Any]] = None) -> None:
        """A short call, that never waits for the runs."""
        event(call, inputs, outputs, queue=False, **_EVENT)

    def _html(self, progress: Progress, *more: Tuple[str, bool], run: str = "") -> str:
        """A run as a bar, its state, and its notes and errors."""
        say, percent = self.words, round(100 * progress.share)
        state = say[progress.state].format(ahead=progress.ahead)
        done, total = progress.files
        parts = [state]
        if total:
            parts.append(say["files"].format(done=done, total=total))
        if progress.left is not None and not progress.ended:
            parts.append(say["left"].format(time=self._time(progress.left)))
        parts += [part for part in (progress.name if not progress.ended else "", progress.device) if part]
        lines = [
            f'<div class="{"run-problem" if problem else "run-note"}">{escape(text)}</div>'
            for text, problem in (*progress.lines, *more)
        ]
        for result in progress.results:
            if result.sizes:
                (width, height), (wide, high) = result.sizes
                sizes = {"width": width, "height": height, "wide": wide, "high": high}
                said = say["sizes"].format(name=result.after.name, seconds=f"{result.seconds:.1f}", **sizes)
                lines.append(f'<div class="run-note">{escape(said)}</div>')
        about = f'data-state="{progress.state}" data-run="{escape(run)}" role="status" aria-live="polite"'
        range_ = f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}" aria-label="{escape(state)}"'
        bar = f'<div class="run-bar" role="progressbar" {range_}><div style="width:{percent}%"></div></div>'
        return f"<div {about}><p>{escape(', '.join(parts))}</p>{bar}{''.join(lines[-200:])}</div>"

    def _time(self, seconds: float) -> str:
        if seconds < 90:
            return self.words["seconds"].format(count=max(1, round(seconds)))
        return self.words["minutes"].format(count=round(seconds / 60))
