"""Networks: named layers stacked."""

from lamina.networks.conv_net import conv_net, conv_net_outputs
from lamina.networks.dense_net import dense_net
from lamina.networks.network import Network, build_network
from lamina.networks.phrases import phrase_net
from lamina.networks.sound_net import sound_net, sound_net_outputs
from lamina.networks.speech_net import speech_net
from lamina.networks.transformer import transformer

__all__ = [
    "Network",
    "build_network",
    "conv_net",
    "conv_net_outputs",
    "dense_net",
    "phrase_net",
    "sound_net",
    "sound_net_outputs",
    "speech_net",
    "transformer",
]
