"""The commands `msdm-lite separate`, `generate` and `accompany`. Chapter: `book/12-longer-and-stranger.ipynb`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from msdm_lite.cli import options
from msdm_lite.errors import InputError


def separate(file: tyro.conf.Positional[options.Input], out: options.Folder, model: options.Model = "lite",
             method: Annotated[str | None, options.one_of(
                 "mixture-constrained", "dirac", "gaussian", "wiener", "pigdm", "projdiff", "guided",
                 otherwise="what the model was trained for")] = None,
             steps: options.Steps = None, samples: options.Count = 1, given: options.Given = (), stereo: bool = False,
             guidance: Annotated[str | None, options.optional("NAME", "the method's own")] = None,
             churn: options.Setting = None, corrections: options.Corrections = None, sigma_max: options.Setting = None,
             sigma_min: options.Setting = None, sampler: options.Sampler = None, level: options.Level = "training",
             seed: options.Seed = 0, device: options.Device = "auto") -> None:
    """Separate a mix into bass, drums, guitar and piano.

    Writes one WAV file a stem, mono at 22 050 Hz. The stems sum to the mix; with gaussian, pigdm and guided
    only approximately. Voices and other instruments go to the most similar stem.

    Args:
        file: the mix: wav, flac, ogg or mp3, any sample rate, any number of channels, 0.1 s or longer.
        out: folder for the stems; it is created where it does not exist.
        model: a model that ships (see `msdm-lite models`), a .safetensors file, a .ckpt file of the official code, or
            a folder of such files, one a stem.
        method: how to separate (see `msdm-lite methods`). mixture-constrained is one network call.
        guidance: a guidance by name, also one of your own (see `msdm-lite methods`); without --method it is sampled
            with 50 noise levels and churn 10.
        steps: number of noise levels; more is slower.
        samples: number of separations that are averaged.
        given: given stems of this mix: drums=kick.wav, or a file called drums.wav.
        stereo: separate left and right, and write stereo stems.
        churn: S_churn of EDM, the noise added while sampling; 0 is an ODE.
        corrections: R, how often each noise level is sampled.
        sigma_max: the first noise level.
        sigma_min: the last noise level before 0.
        sampler: the sampler; heun takes two network calls a step, dpm-solver no churn.
        level: training: the network gets the mix as loud as what it was trained on; keep: as it is.
        seed: seed of the noise; the same seed gives the same stems.
        device: where to compute.
    """
    from msdm_lite.audio import io as audio_io
    from msdm_lite.inference.defaults import separation_method
    from msdm_lite.inference.separation import separate as run
    from msdm_lite.models import weights
    from msdm_lite.utils import files as utils_files

    settings: dict[str, Any] = {"churn": churn, "corrections": corrections, "sigma_max": sigma_max,
                                "sigma_min": sigma_min, "sampler": sampler, "guidance": guidance}
    loaded = weights.load(model, device)
    # Errors are found before the separation
    separation_method(loaded, method, bool(given), steps=steps, **settings)
    mix = audio_io.load(file, loaded.sample_rate, mono=not stereo)
    known = {name: audio_io.load(path, loaded.sample_rate) for name, path in named_files(given).items()}
    with utils_files.claimed(out) as folder:
        stems = run(mix, loaded, method, steps=steps, seed=seed, progress=sys.stderr.isatty(), samples=samples,
                    given=known, keep_stereo=stereo, level=level, **settings)
        for path in audio_io.save_stems(folder, stems, loaded.sample_rate, loaded.stems):
            print(path)


def generate(out: options.Folder, model: options.Model = "lite", sketch: options.Sketcher = None,
             seconds: options.Seconds = 6.0, n: options.Count = 1,
             tempo: Annotated[float | None, options.optional("BPM", "that of a training song for each band")] = None,
             metre: Annotated[int | None, options.optional("BEATS", "4")] = None,
             method: Annotated[str, tyro.conf.arg(metavar="{ode,paper}")] = "ode", steps: options.Steps = None,
             churn: options.Setting = None, sigma_max: options.Setting = None, sigma_min: options.Setting = None,
             sampler: options.Sampler = None,
             batch: Annotated[int | None, options.optional("N", "1 on a CPU, 16 on a GPU")] = None,
             seed: options.Seed = 0, device: options.Device = "auto") -> None:
    """Generate bands from noise: for each its stems and their mix.

    Args:
        out: output folder; band 1 goes to 01/, with one WAV file a stem and mix.wav.
        model: a model that ships (see `msdm-lite models`), a .safetensors file, a .ckpt file of the official code, or
            a folder of such files, one a stem.
        sketch: a model that first generates a coarse spectrogram of each band (lite-sketch), which the other decodes.
        seconds: length of each band.
        n: number of bands.
        tempo: beats per minute, for a sketch model with beat conditioning (lite-sketch); 0 for none.
        metre: beats in a bar, for the same models.
        method: ode, without churn, or paper, the published settings.
        steps: number of noise levels; more is slower.
        churn: S_churn of EDM, the noise added while sampling; 0 is an ODE.
        sigma_max: the first noise level.
        sigma_min: the last noise level before 0.
        sampler: the sampler; heun takes two network calls a step, dpm-solver no churn.
        batch: bands that go through the model together; it changes nothing but time and memory.
        seed: seed of the noise; the same seed gives the same bands.
        device: where to compute.
    """
    from msdm_lite.inference import accompaniment, cascade, generation
    from msdm_lite.models import weights
    from msdm_lite.utils import files as utils_files

    settings: dict[str, Any] = {"churn": churn, "sigma_max": sigma_max, "sigma_min": sigma_min, "sampler": sampler}
    loaded = weights.load(model, device)
    sketcher = cascade.load_sketcher(sketch, loaded)
    with utils_files.claimed(out) as folder:
        bands = generation.generate_each(loaded, seconds, n, seed, method=method, steps=steps,
                                         progress=sys.stderr.isatty(), sketcher=sketcher, tempo=tempo, metre=metre,
                                         batch=batch, **settings)
        for number, band in enumerate(bands, 1):  # each band is written before the next is generated
            place = folder / f"{number:02d}"
            accompaniment.save_band(place, band, loaded)
            print(place)


def accompany(files: tyro.conf.Positional[options.Inputs], out: options.Folder, model: options.Model = "lite",
              sketch: options.Sketcher = None,
              method: Annotated[str | None, options.one_of("stems-given", "replacement",
                                                           otherwise="what the model was trained for")] = None,
              steps: options.Steps = None, churn: options.Setting = None, corrections: options.Corrections = None,
              sigma_max: options.Setting = None, sigma_min: options.Setting = None, weight: options.Setting = None,
              sampler: options.Sampler = None, level: options.Level = "training", seed: options.Seed = 0,
              device: options.Device = "auto") -> None:
    """Generate the missing stems of a band, given the others.

    Args:
        files: the given stems: drums=kick.wav, or files called bass.wav, drums.flac, ... Any sample rate; shorter ones
            are padded with silence.
        out: folder for all stems and their mix; it is created where it does not exist.
        model: a model that ships (see `msdm-lite models`), a .safetensors file, a .ckpt file of the official code, or
            a folder of such files, one a stem.
        sketch: a model that first generates a coarse spectrogram of the new stems, which the other decodes.
        method: how to impute (see `msdm-lite methods`); replacement is the paper's.
        steps: number of noise levels; more is slower.
        churn: S_churn of EDM, the noise added while sampling; 0 is an ODE.
        corrections: R, how often each noise level is sampled.
        sigma_max: the first noise level.
        sigma_min: the last noise level before 0.
        weight: classifier-free guidance weight by the given stems, for stems-given; more than 1 costs twice as much.
        sampler: the sampler; heun takes two network calls a step, dpm-solver no churn.
        level: training: the network gets the stems as loud as what it was trained on; keep: as they are.
        seed: seed of the noise; the same seed gives the same stems.
        device: where to compute.
    """
    from msdm_lite.inference import accompaniment, cascade, defaults
    from msdm_lite.models import weights
    from msdm_lite.utils import files as utils_files

    settings: dict[str, Any] = {"churn": churn, "corrections": corrections, "sigma_max": sigma_max,
                                "sigma_min": sigma_min, "weight": weight, "sampler": sampler}
    loaded = weights.load(model, device)
    defaults.imputation_method(loaded, method, steps=steps, **settings)
    sketcher = cascade.load_sketcher(sketch, loaded)
    waves = accompaniment.load_stems(named_files(files), loaded)
    with utils_files.claimed(out) as folder:
        band = accompaniment.accompany(waves, loaded, seed=seed, method=method, steps=steps,
                                       progress=sys.stderr.isatty(), sketcher=sketcher, level=level, **settings)
        for path in accompaniment.save_band(folder, band, loaded):
            print(path)


def named_files(words: tuple[str, ...]) -> dict[str, Path]:
    """Files by stem: "drums=kick.wav" and "drums.wav" both name the drums.

    Raises:
        InputError: a stem is given twice.
    """
    found: dict[str, Path] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or Path(word).exists():
            name, path = Path(word).stem, word
        if name in found:
            raise InputError(f"{name} is given twice: {found[name]} and {path}")
        found[name] = Path(path)
    return found
