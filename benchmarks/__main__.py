"""python -m benchmarks NAME: one command per published figure; the result is kept under benchmarks/results/.

startup       --help, and from the command to the first optimizer step with a warm cache
digits        accuracy, 5 splits x 3 seeds
fashion       Fashion-MNIST, official test, --minutes 10, one view and several
cifar         CIFAR-10, official test, within --flops 1.5e14
few           CIFAR-10 with 300 training photos: running start and from nothing
hymenoptera   244 photos: running start and from nothing
speed         local MFU, ratio to a plain loop, shares of a step
predict       one picture at a time, and 10,000
forecasts     twelve forecasts of time against what it took
growth        time and memory per example from 10^3 to 10^6 pictures
large         memory on a made set of 20 GB
peers         Keras, Lightning, fastai and AutoGluon in as many minutes, and how many of them Lamina needs for the best one's accuracy
classical     Fashion-MNIST: the best classical model inside its share of 10 minutes, and given as long as deep
verdicts      the verdict's sentence on digits, titanic, adult, hymenoptera, Fashion-MNIST and CIFAR-10
suspects      Fashion-MNIST with 5 % wrong labels planted: how many of the suspects are
truths        the verdict on twelve made sets of known truth
curves        learning curves up to n examples against what twice as many then gave
atlas         opening networks of three sets of pictures: seconds, bytes, snapshots' cost, probes beside random weights
activations   fully connected stacks with and without activation functions on three sets of pictures
doctor        planted faults found by name, and false alarms on healthy runs
spoken        FSDD: the official test part, and each speaker left out once
commands      Speech Commands, the official test archive in five folds, speakers apart
voices        AN4: equal error rate of speakers never seen, five folds; borrowed beside it with --data voice.onnx
faces         LFW: pairs of people never seen; ORL started from that model
opponents     LFW: each classical way to know a face alone
promise       measured false accepts of people never seen against the promised rate and its bound, in 20 draws
search        one picture or 3 s of sound verified; one identified among 100,000 templates
shakespeare   tiny Shakespeare by characters, --minutes 1 and 10
plain         against a plain script with nanoGPT's settings for a CPU, in as much time
tokens        training tokens a second beside a plain GPT of the same size; local MFU
generation    tokens a second, one text and eight at once
texts         IMDb, SST-2, TREC and SMS spam with their verdicts
conversations answers that end by themselves, of a model tuned on instructions
corpus        100 MB of text: time and memory until the first step
an4           AN4 transcribed, the official test part: word error rate with and without what is known of words
hearing       seconds of computing per second of sound; a recognizer of others beside it
choices       MovieLens-1M, Amazon Beauty, Gowalla, MovieLens-100K: every item ranked, with their verdicts
opponents_of_choices  each classical way alone on these sets: gains, recall, seconds
lists         a list for one user, and for a million
rows          10 million choices: seconds and memory of the audit and of a training
intervals     California housing: how many intervals hold the truth
ratings       MovieLens-100K: ratings as numbers, five folds
serving       a picture over HTTP: one client, 64 of them
hostile       64 clients for two minutes, one in ten hostile
endpoint      16 clients of the language endpoint, one request in ten cut off
watched       what a page that watches costs a training
exported      a model of every task as ONNX, compared on held-out values
painted       milliseconds until the page is first painted
gpu           on an NVIDIA GPU: CIFAR-10 by seconds of training, local MFU, examples per second, answers per second
coverage      how often the paired interval holds the true difference
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from datetime import date
from typing import Any

from benchmarks import accuracy, choices, gpu, inside, people, scale, serving, speech, speed, truths, verdict, words
from benchmarks.common import RESULTS, joined
from benchmarks.doctor import doctor
from benchmarks.peers import peers

ALL: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    benchmark.__name__: benchmark
    for benchmark in (
        speed.startup, speed.speed, speed.predict, accuracy.digits, accuracy.fashion, accuracy.cifar, accuracy.few, accuracy.hymenoptera,
        scale.forecasts, scale.growth, scale.large, peers, gpu.gpu,
        verdict.classical, verdict.verdicts, verdict.suspects, verdict.coverage, verdict.curves, truths.truths,
        doctor, inside.atlas, inside.activations,
        people.spoken, people.commands, people.voices, people.faces, people.opponents, people.promise, people.search,
        words.shakespeare, words.plain, words.tokens, words.generation, words.texts, words.conversations, words.corpus,
        speech.an4, speech.hearing,
        choices.choices, choices.opponents_of_choices, choices.lists, choices.rows, choices.intervals, choices.ratings,
        serving.serving, serving.hostile, serving.endpoint, serving.watched, serving.exported, serving.painted,
    )
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=sorted(ALL), help="all of them when left out")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--first", type=int, default=0, help="the first seed; above 0 the runs join those of the kept result")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--flops", type=float)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--data", help="peers, verdicts: names of data sets, with commas")
    parser.add_argument("--start", help="texts: --start-from of the trainings")
    parser.add_argument("--only", help="peers: names with commas, lamina among them; doctor: faults, and healthy")
    parser.add_argument("--parts", help="peers: shares of the minutes that Lamina gets, with commas (1,0.5,0.25)")
    parser.add_argument("--as", dest="kept_as", default="", help="name of the result file, when it is not the benchmark's")
    options = parser.parse_args()
    for name in [options.name] if options.name else [name for name in ALL if name != "gpu" or gpu.there()]:
        import torch

        import lamina.pipeline

        machine = {"processor": platform.machine(), "cores": os.cpu_count(), "capability": torch.backends.cpu.get_cpu_capability(),
                   "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None}  # fmt: skip
        versions = {"lamina": lamina.pipeline.version(), "torch": torch.__version__, "python": platform.python_version()}
        command = "python -m benchmarks " + " ".join(sys.argv[1:] if options.name else [name])
        found = ALL[name](options)
        RESULTS.mkdir(exist_ok=True)
        file = RESULTS / f"{options.kept_as or name}.json"
        if options.first:
            kept = json.loads(file.read_text())
            command = f"{kept['command']}; {command}"
            found = {name: joined(kept[name], value) if name in kept else value for name, value in found.items()}
        result = {"benchmark": name, "command": command, "date": date.today().isoformat(), "machine": machine, "versions": versions,
                  **found}  # fmt: skip
        file.write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
