"""The farm: a shot, a long shot in chunks, or thousands of shots as one job of Deadline 10 or Deadline Cloud.

Nothing here schedules machines. What a farm runs is the command line, so a job is words: paths, frames, settings. This
room writes those words in each farm's form and reads them back on the worker. It touches no pixels.

For hosts: `FarmShot`, `bundle.write` and `deadline10.submit_shot` need the standard library alone, Python 3.9 and up;
`client.FarmClient` has the shape of a daemon's client, so that a node or a strip may wait for either.
"""
