"""VGGish, the embedding of published Frechet audio distances: 128 numbers for every 0.96 s.

The network and its spectrogram are those of the library `torchvggish`. Its weights are fetched once into the cache, a
file of tensors checked against the hash in its name; no code in it is run. The FAD values of Mariani et al. (arXiv
2302.02257) use it. Chapter: `book/10-measuring.ipynb`.
"""

from functools import cache
from urllib.error import URLError

import torch
from torch import Tensor, nn

from msdm_lite.audio import io as audio_io
from msdm_lite.errors import InputError, MachineError
from msdm_lite.utils import paths
from msdm_lite.utils.checkpoints import require_safe_torch
from msdm_lite.utils.imports import library

SAMPLE_RATE = 16000


@cache
def network() -> nn.Module:
    """The network: spectrograms (N, 1, 96, 64) -> (N, 128), the last layer without its ReLU, as usual for FAD.

    Raises:
        MachineError: `torchvggish` is not installed, PyTorch is older than 2.6, or the weights cannot be fetched.
    """
    torchvggish = library("torchvggish.torchvggish")
    require_safe_torch("the weights of VGGish")
    model = torchvggish.VGG(torchvggish.make_layers(), postprocess=False)
    try:
        found = torch.hub.load_state_dict_from_url(torchvggish.VGGISH_WEIGHTS, check_hash=True, weights_only=True,
                                                   map_location="cpu", model_dir=str(paths.cache("vggish")))
    except (URLError, OSError, RuntimeError) as problem:
        raise MachineError(f"the weights of VGGish cannot be fetched from {torchvggish.VGGISH_WEIGHTS} ({problem})"
                           ) from None
    model.load_state_dict(found)
    model.embeddings = model.embeddings[:-1]
    return model.eval().requires_grad_(False)


@torch.no_grad()
def embed(waves: Tensor, sample_rate: int = audio_io.SAMPLE_RATE) -> Tensor:
    """Embeddings of sounds (N, T) of a second or more: (N, W, 128), W the number of whole windows of 0.96 s.

    Raises:
        InputError: the sounds are shorter.
        MachineError: the library is missing, or the weights cannot be fetched.
    """
    if waves.shape[-1] < sample_rate:
        raise InputError(f"an embedding needs a second of sound, not {waves.shape[-1] / sample_rate:.2f} s")
    model = network()
    vggish_input = library("torchvggish.vggish_input")
    resampled = audio_io.resample(waves, sample_rate, SAMPLE_RATE).double().numpy()
    windows = [vggish_input.waveform_to_examples(wave, SAMPLE_RATE, return_tensor=False) for wave in resampled]
    mel = torch.stack([torch.from_numpy(some).float() for some in windows])  # (N, W, 96, 64)
    return torch.cat([model(some[:, None]) for some in mel.flatten(0, 1).split(64)]).unflatten(0, mel.shape[:2])
