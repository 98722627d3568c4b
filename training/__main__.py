"""Make the predictor anew: `python -m training --help`.

What comes in: words on the command line. What goes out: a file of pictures, checkpoints, figures, or the ONNX file of
the wheel.

python -m training pictures --photographs DIR --out pictures.npz
python -m training train --pictures pictures.npz --out runs/one --minutes 22
python -m training score runs/one/mean-last.pt --pictures pictures.npz
python -m training export runs/one/mean-last.pt --out void_server/effects/predictor.onnx
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    collect = commands.add_parser("pictures", help="gather photographs and made-up textures into one file")
    collect.add_argument(
        "--photographs", type=Path, metavar="DIR", help="the pictures of Debian's lomiri-wallpapers-16.04"
    )
    collect.add_argument("--out", type=Path, required=True)
    learn = commands.add_parser("train", help="train on one GPU; a run of the shipped length takes 20 to 25 minutes")
    learn.add_argument("--pictures", type=Path, required=True)
    learn.add_argument("--out", type=Path, required=True)
    learn.add_argument("--minutes", type=float, default=22)
    learn.add_argument("--scenes", type=int, default=12_000)
    learn.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    learn.add_argument("--save-every-s", type=float, default=150)
    learn.add_argument("--resume", type=Path)
    learn.add_argument("--first-share", type=float, default=0.0, help="where on the schedule a resumed run begins")
    judge = commands.add_parser("score", help="figures on scenes kept from training; several checkpoints are averaged")
    judge.add_argument("checkpoints", type=Path, nargs="+")
    judge.add_argument("--pictures", type=Path, required=True)
    judge.add_argument("--scenes", type=int, help="how many; left out, as many as training scores at its end")
    judge.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    write = commands.add_parser("export", help="write the ONNX file; several checkpoints are averaged")
    write.add_argument("checkpoints", type=Path, nargs="+")
    write.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.command == "pictures":
        from training import photographs

        photographs.collect(args.photographs).save(args.out)
    elif args.command == "train":
        from training import train
        from training.pictures import Pictures

        train.train(
            Pictures.load(args.pictures),
            args.out,
            args.minutes,
            args.scenes,
            args.workers,
            args.save_every_s,
            args.resume,
            args.first_share,
        )
    elif args.command == "score":
        from training import export, held_out
        from training.pictures import Pictures

        kept_back = held_out.scenes_kept_back(args.workers, args.scenes or held_out.SCORED)
        for figures in held_out.figures(
            export.load(args.checkpoints), kept_back, Pictures.load(args.pictures).part(True)
        ):
            print(json.dumps(figures), flush=True)
    else:
        from training import export

        apart = export.export(export.load(args.checkpoints), args.out)
        print(
            f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB; torch and onnxruntime differ by at most {apart:.1e}"
        )


if __name__ == "__main__":
    main()
