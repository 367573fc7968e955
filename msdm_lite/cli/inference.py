"""The commands `msdm-lite separate`, `generate` and `accompany`. Chapter: `book/12-longer-and-stranger.ipynb`."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from msdm_lite.cli import options
from msdm_lite.errors import InputError, MachineError, shown


def separate(files: tyro.conf.Positional[options.Songs], out: options.Folder, model: options.Model = "lite",
             method: Annotated[str | None, options.one_of(
                 "mixture-constrained", "dirac", "gaussian", "wiener", "pigdm", "projdiff", "guided",
                 otherwise="what the model was trained for")] = None,
             steps: options.Steps = None, samples: options.Count = 1, given: options.Given = (), mono: bool = False,
             rate: Annotated[str, tyro.conf.arg(metavar="input|model|HZ")] = "input", format: options.Format = "wav",
             bits: Annotated[str | None, options.one_of("16", "24", "float", otherwise="float; of flac 24")] = None,
             two_stems: Annotated[str | None, options.optional("STEM", "all stems")] = None,
             guidance: Annotated[str | None, options.optional("NAME", "the method's own")] = None,
             churn: options.Setting = None, corrections: options.Corrections = None, sigma_max: options.Setting = None,
             sigma_min: options.Setting = None, sampler: options.Sampler = None, level: options.Level = "training",
             seed: options.Seed = 0, device: options.Device = "auto", overwrite: bool = False, stereo: bool = False
             ) -> int:
    """Separate mixes into bass, drums, guitar and piano.

    Writes one file a stem, in stereo if the mix is. The stems sum to the mix; with gaussian, pigdm and guided only
    approximately. Voices and other instruments go to the stem that they are most like. What the mix has above the
    model's band (11 kHz) is shared out in proportion to each stem's power just below.

    Args:
        files: the mixes: wav, flac, ogg, mp3 and others, any sample rate, 0.1 s or longer; a folder stands for the
            sound files in it, - for standard input. Several get a folder each.
        out: folder for the stems; it is created where it does not exist.
        model: a model that ships (see `msdm-lite models`), a .safetensors file, a .ckpt file of the official code, the
            folder of a training run, or a folder of such files, one a stem.
        method: how to separate (see `msdm-lite methods`). mixture-constrained is one network call.
        guidance: a guidance by name, also one of your own (see `msdm-lite methods`); without a method it is sampled
            with 50 noise levels and churn 10.
        steps: number of noise levels; more is slower.
        samples: number of separations that are averaged.
        given: given stems of this mix: drums=kick.wav, or a file with drums in its name. A mono stem stands on both
            sides of a stereo mix.
        mono: separate the mean of both sides, which takes half the time.
        rate: sample rate of the stems: that of the mix, that of the model, or a number.
        format: of the stems.
        bits: of a sample. Where 16 or 24 would clip, all stems are turned down by one gain, which is said.
        two_stems: write this stem and rest, the mix without it, in place of all stems.
        churn: S_churn of EDM, the noise added while sampling; 0 is an ODE.
        corrections: R, how often each noise level is sampled.
        sigma_max: the first noise level.
        sigma_min: the last noise level before 0.
        sampler: the sampler; heun takes two network calls a step, dpm-solver no churn.
        level: training: the network gets the mix as loud as what it was trained on; keep: as it is.
        seed: seed of the noise; the same seed gives the same stems.
        device: where to compute.
        overwrite: write over files in the folder that msdm-lite did not make. Inputs are never written over.
        stereo: as without it: a stereo mix gives stereo stems.
    """
    from msdm_lite.audio import io as audio_io
    from msdm_lite.inference import defaults, outputs, song_files, sources
    from msdm_lite.models import weights
    from msdm_lite.utils import files as utils_files
    from msdm_lite.utils import manifest, paths

    if mono and stereo:
        raise InputError("--mono and --stereo exclude each other")
    settings: dict[str, Any] = {"churn": churn, "corrections": corrections, "sigma_max": sigma_max,
                                "sigma_min": sigma_min, "sampler": sampler, "guidance": guidance}
    wanted, form = song_files.Wanted(mono, rate, two_stems), outputs.Format(format, bits)
    if rate.isdigit():
        form.check(int(rate))
    loaded = weights.load(model, device)
    words, stems_given = sources.mixes_and_given(files, given, loaded.stems)
    # Errors are found before the separation
    defaults.separation_method(loaded, method, bool(stems_given), steps=steps, **settings)
    defaults.require_seed(seed)
    known_files = sources.named_files(stems_given, loaded.stems)
    songs, out = sources.sound_files(words), paths.expanded(out)
    several = len(words) > 1 or paths.expanded(words[0]).is_dir()
    if several and known_files:
        raise InputError(f"stems are given of one mix, and there are {len(songs)} files")
    places = [out / name for name in sources.folder_names(songs)] if several else [out]
    inputs = [*songs, *known_files.values()]
    for place in places:
        manifest.require_own(place, [f"{name}{form.ending}" for name in wanted.names(loaded)], inputs, overwrite)
    known = {name: audio_io.read(path) for name, path in known_files.items()}

    def one(song: Path, place: Path) -> None:
        """Separate one song into one folder."""
        with sources.at_hand(song) as path:
            sound = audio_io.read(path)
        form.check(wanted.sample_rate(sound, loaded))
        with utils_files.claimed(place) as folder:
            waves = song_files.separated(sound, loaded, known, wanted, method=method, steps=steps, seed=seed,
                                         progress=sys.stderr.isatty(), samples=samples, level=level, **settings)
            written = outputs.write(folder, waves, wanted.sample_rate(sound, loaded),
                                    _facts([song, *known_files.values()], seed, model), form, sound.tags)
        print("\n".join(map(shown, written)))

    if not several:
        one(songs[0], out)
        return 0
    left_out = 0
    with utils_files.claimed(out):
        for song, place in zip(songs, places, strict=True):
            try:
                one(song, place)
            except MachineError:  # of the next song it would be the same
                raise
            except (InputError, FloatingPointError) as problem:
                left_out += 1
                says, name = shown(problem), shown(song)
                print(f"msdm-lite: {says if name in says else f'{name}: {says}'}", file=sys.stderr)
    return 1 if left_out else 0


def generate(out: options.Folder, model: options.Model = "lite", sketch: options.Sketcher = None,
             seconds: options.Seconds = 6.0, n: options.Count = 1,
             tempo: Annotated[float | None, options.optional("BPM", "that of a training song for each band")] = None,
             metre: Annotated[int | None, options.optional("BEATS", "4")] = None,
             method: Annotated[str, tyro.conf.arg(metavar="{ode,paper}")] = "ode", steps: options.Steps = None,
             churn: options.Setting = None, sigma_max: options.Setting = None, sigma_min: options.Setting = None,
             sampler: options.Sampler = None,
             batch: Annotated[int | None, options.optional("N", "1 on a CPU, 16 on a GPU")] = None,
             seed: options.Seed = 0, device: options.Device = "auto", overwrite: bool = False) -> None:
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
        overwrite: write over files in the folders that msdm-lite did not make.
    """
    from msdm_lite.inference import accompaniment, cascade, generation, outputs
    from msdm_lite.models import weights
    from msdm_lite.utils import files as utils_files
    from msdm_lite.utils import manifest, paths

    settings: dict[str, Any] = {"churn": churn, "sigma_max": sigma_max, "sigma_min": sigma_min, "sampler": sampler}
    loaded = weights.load(model, device)
    sketcher = cascade.load_sketcher(sketch, loaded)
    generation.require_possible(seconds, n, seed)
    out = paths.expanded(out)
    for number in range(1, n + 1):
        manifest.require_own(out / f"{number:02d}", accompaniment.file_names(loaded), overwrite=overwrite)
    with utils_files.claimed(out) as folder:
        bands = generation.generate_each(loaded, seconds, n, seed, method=method, steps=steps,
                                         progress=sys.stderr.isatty(), sketcher=sketcher, tempo=tempo, metre=metre,
                                         batch=batch, **settings)
        for number, band in enumerate(bands, 1):  # each band is written before the next is generated
            place = folder / f"{number:02d}"
            outputs.write(place, accompaniment.with_mix(band, loaded), loaded.sample_rate, _facts([], seed, model))
            print(shown(place))


def accompany(files: tyro.conf.Positional[options.Inputs], out: options.Folder, model: options.Model = "lite",
              sketch: options.Sketcher = None,
              method: Annotated[str | None, options.one_of("stems-given", "replacement",
                                                           otherwise="what the model was trained for")] = None,
              steps: options.Steps = None, churn: options.Setting = None, corrections: options.Corrections = None,
              sigma_max: options.Setting = None, sigma_min: options.Setting = None, weight: options.Setting = None,
              sampler: options.Sampler = None, level: options.Level = "training", seed: options.Seed = 0,
              device: options.Device = "auto", overwrite: bool = False) -> None:
    """Generate the missing stems of a band, given the others.

    Args:
        files: the given stems: drums=kick.wav, or files with a stem in their name, as Bass.wav or song_drums.flac. Any
            sample rate; shorter ones are padded with silence.
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
        overwrite: write over files in the folder that msdm-lite did not make. Inputs are never written over.
    """
    from msdm_lite.inference import accompaniment, cascade, defaults, outputs, sources
    from msdm_lite.models import weights
    from msdm_lite.utils import files as utils_files
    from msdm_lite.utils import manifest, paths

    settings: dict[str, Any] = {"churn": churn, "corrections": corrections, "sigma_max": sigma_max,
                                "sigma_min": sigma_min, "weight": weight, "sampler": sampler}
    loaded = weights.load(model, device)
    defaults.imputation_method(loaded, method, steps=steps, **settings)
    sketcher = cascade.load_sketcher(sketch, loaded)
    defaults.require_seed(seed)
    named, out = sources.named_files(files, loaded.stems), paths.expanded(out)
    manifest.require_own(out, accompaniment.file_names(loaded), named.values(), overwrite)
    waves = accompaniment.load_stems(named, loaded)
    with utils_files.claimed(out) as folder:
        band = accompaniment.accompany(waves, loaded, seed=seed, method=method, steps=steps,
                                       progress=sys.stderr.isatty(), sketcher=sketcher, level=level, **settings)
        written = outputs.write(folder, accompaniment.with_mix(band, loaded), loaded.sample_rate,
                                _facts(list(named.values()), seed, model))
    print("\n".join(map(shown, written)))


def _facts(inputs: list[Path], seed: int, model: str) -> dict[str, Any]:
    """What a manifest says of a run."""
    import msdm_lite

    return {"command": shlex.join(["msdm-lite", *options.LINE.get()]), "inputs": [str(path) for path in inputs],
            "seed": seed, "model": model, "version": msdm_lite.__version__}
