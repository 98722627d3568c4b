"""Deadline 10 Monitor script: Submit > VoidInpaint. A window for one shot, whole or in chunks.

What comes in: what a person types. What goes out: one job, or a job of chunks and one that assembles them, with the
very keys that `void_server.farm.deadline10` writes. It lives in the Monitor's own interpreter: standard library alone.
"""

import codecs
import re
import uuid
from pathlib import Path

from Deadline.Scripting import ClientUtils
from DeadlineUI.Controls.Scripting.DeadlineScriptDialog import DeadlineScriptDialog

OVERLAP = 4
FIELDS = (
    # name, control, label, value, tooltip
    ("Name", "TextControl", "Job name", "", "Empty: the output folder's name"),
    ("Plate", "TextControl", "Plate", "", "plate.####.exr, or a folder"),
    ("Matte", "TextControl", "Matte", "", "matte.####.exr, 1 = remove"),
    ("Affected", "TextControl", "Affected matte", "", "Painted; empty: it is found"),
    ("AffectedAdd", "TextControl", "Added to affected", "", "Painted on the frames where something was missed"),
    ("AffectedSub", "TextControl", "Taken from affected", "", "Painted on the frames where too much was found"),
    ("Keep", "TextControl", "Keep matte", "", "What passes in front"),
    ("Reference", "TextControl", "Reference frames", "", "Painted or shot clean"),
    ("Out", "TextControl", "Output folder", "", "clean.####.exr are written here"),
    ("Frames", "TextControl", "Frames", "1001-1048", "First and last; no steps, no lists"),
    ("Chunk", "TextControl", "Frames a chunk", "", "Empty: the whole shot in one task. A chunk's border is a seam"),
    ("Handles", "TextControl", "Context frames", "", "Read on either side of a chunk. Empty: the whole plate"),
    ("Prompt", "TextControl", "Scene after removal", "", "For engine void: a table with a cup on it"),
    ("Limits", "TextControl", "Limits", "", "Names, with commas between"),
)
OPTIONAL = ("Affected", "AffectedAdd", "AffectedSub", "Keep", "Reference")
scriptDialog = None  # noqa: N816 - the Monitor's scripts all call it so


def __main__(*args):  # noqa: N807 - the Monitor calls it
    global scriptDialog  # noqa: PLW0603 - the button's callback has no other way to it
    scriptDialog = DeadlineScriptDialog()
    scriptDialog.SetTitle("Submit VOID to Deadline")
    scriptDialog.AddGrid()
    row = 0
    for name, control, label, value, tip in FIELDS:
        scriptDialog.AddControlToGrid(name + "Label", "LabelControl", label, row, 0, tip, False)
        scriptDialog.AddControlToGrid(name + "Box", control, value, row, 1, tip)
        row += 1
    for name, control, label, value in (
        ("Pool", "PoolComboControl", "Pool", "none"),
        ("Group", "GroupComboControl", "Group", "none"),
    ):
        scriptDialog.AddControlToGrid(name + "Label", "LabelControl", label, row, 0, label, False)
        scriptDialog.AddControlToGrid(name + "Box", control, value, row, 1, label)
        row += 1
    scriptDialog.AddControlToGrid("EngineLabel", "LabelControl", "Engine", row, 0, "void needs a GPU", False)
    scriptDialog.AddComboControlToGrid("EngineBox", "ComboControl", "propagate", ("propagate", "void"), row, 1)
    row += 1
    tip = "bold removes also what is only suspected to be the object's doing"
    scriptDialog.AddControlToGrid("EffectsLabel", "LabelControl", "Shadows and reflections", row, 0, tip, False)
    scriptDialog.AddComboControlToGrid("EffectsBox", "ComboControl", "sure", ("sure", "bold"), row, 1)
    row += 1
    tip = "For engine void: draft is a first look, fine a larger picture that takes longer"
    scriptDialog.AddControlToGrid("QualityLabel", "LabelControl", "Quality", row, 0, tip, False)
    choices = ("draft", "release", "fine")
    scriptDialog.AddComboControlToGrid("QualityBox", "ComboControl", "release", choices, row, 1)
    scriptDialog.AddControlToGrid("PriorityLabel", "LabelControl", "Priority", row + 1, 0, "0 to 100", False)
    scriptDialog.AddRangeControlToGrid("PriorityBox", "RangeControl", 50, 0, 100, 0, 1, row + 1, 1)
    submit = scriptDialog.AddControlToGrid("SubmitButton", "ButtonControl", "Submit", row + 2, 0, expand=False)
    submit.ValueModified.connect(SubmitButtonPressed)
    close = scriptDialog.AddControlToGrid("CloseButton", "ButtonControl", "Close", row + 2, 1, expand=False)
    close.ValueModified.connect(scriptDialog.closeEvent)
    scriptDialog.EndGrid()
    scriptDialog.ShowDialog(False)


def SubmitButtonPressed(*args):  # noqa: N802 - as the Monitor's scripts spell it
    values = {name: str(scriptDialog.GetValue(name + "Box")).strip() for name, *_ in FIELDS}
    combos = ("Pool", "Group", "Engine", "Effects", "Quality", "Priority")
    values.update({name: str(scriptDialog.GetValue(name + "Box")) for name in combos})
    try:
        said = submit(values)
    except ValueError as error:
        said = str(error)
    scriptDialog.ShowMessageBox(said, "Submission Results")


def submit(values):
    """Hand the job over and return what Deadline said. Raises ValueError for what can't be submitted."""
    job, plugin, size = described(values)
    if not size:
        return handed_over(job, dict(plugin, Mode="shot"))[1]
    chunk = {"ShotFrames": job["Frames"], "Overlap": str(OVERLAP)}
    batched = dict(job, BatchName=job["Name"], ChunkSize=str(size))
    first, said = handed_over(batched, dict(plugin, Mode="chunk", **chunk))
    after = dict(
        batched,
        Name=job["Name"] + " assemble",
        Frames=job["Frames"].rsplit("-", 1)[0],
        ChunkSize="1",
        JobDependencies=first,
        ResumeOnCompleteDependencies="true",
        ResumeOnDeletedDependencies="false",
        ResumeOnFailedDependencies="false",
    )
    after.pop("LimitGroups", None)
    return said + "\n" + handed_over(after, dict(plugin, Mode="assemble", **chunk))[1]


def described(values):
    """Job info, plug-in info and frames a chunk (0: whole), from the window's values."""
    for name in ("Plate", "Matte", "Out"):
        if not values[name]:
            raise ValueError(f"{name} is empty.")
    span = re.match(r"^(-?\d+)(?:-(-?\d+))?$", values["Frames"])
    if not span:
        raise ValueError(f"'{values['Frames']}' is not a frame range. Give the first and last frame, as 1001-1048.")
    first, last = int(span.group(1)), int(span.group(2) or span.group(1))
    if last < first:
        raise ValueError(f"Frame range {values['Frames']} runs backwards.")
    count = last - first + 1
    for name in ("Chunk", "Handles"):
        if values[name] and not values[name].isdigit():
            raise ValueError(f"'{values[name]}' is not a number of frames.")
    size = 0
    if values["Chunk"]:
        most = max(1, int(values["Chunk"]))
        size = -(-count // -(-count // most))
        shortest = count % size or size
        if size < count and shortest < 2 * OVERLAP:
            raise ValueError(f"A chunk of {shortest} frames is too short to be faded. Give longer chunks.")
    out = values["Out"].rstrip("\\/")
    job = {
        "Plugin": "VoidInpaint",
        "Name": values["Name"] or re.split(r"[\\/]", out)[-1],
        "Priority": values["Priority"],
        "Pool": values["Pool"],
        "Group": values["Group"],
        "LimitGroups": values["Limits"],
        "MachineLimit": "0",
        "ConcurrentTasks": "1",
        "InitialStatus": "Active",
        "EnableAutoTimeout": "false",
        "TaskTimeoutMinutes": "1440",
        "OnTaskTimeout": "Error",
        "OverrideTaskFailureDetection": "true",
        "FailureDetectionTaskErrors": "3",
        "ExtraInfoKeyValue0": "void_request=" + uuid.uuid4().hex,
        "Frames": f"{first}-{last}",
        "ChunkSize": str(count),
        "OutputDirectory0": out,
        "OutputFilename0": "clean.####.exr",
    }
    plugin = {"Plate": values["Plate"], "Matte": values["Matte"]}
    plugin.update({name: values[name] for name in OPTIONAL if values[name]})
    plugin.update(
        Out=out,
        Engine=values["Engine"],
        PhysicsPrior="true",
        Seed="0",
        Prompt=values["Prompt"],
        Handles=values["Handles"],
    )
    unusual = [
        "--" + name.lower() + "=" + values[name]
        for name, usual in (("Effects", "sure"), ("Quality", "release"))
        if values[name] != usual
    ]
    plugin.update({f"Extra{index}": word for index, word in enumerate(unusual)})
    return {key: value for key, value in job.items() if value}, plugin, size


def handed_over(job, plugin):
    """(job id, what Deadline said). Raises ValueError where it refused."""
    names = []
    for name, info in (("void_job_info.job", job), ("void_plugin_info.job", plugin)):
        lines = []
        for key, value in info.items():
            # A line break would be read as another key.
            if any(ord(c) < 32 for c in value) or '"' in value:
                raise ValueError(f"{key} holds a line break or a double quote. Take it out.")
            lines.append(f"{key}={value}\n")
        path = Path(ClientUtils.GetDeadlineTempPath()) / name
        path.write_bytes(codecs.BOM_UTF16_LE + "".join(lines).encode("utf-16-le"))
        names.append(str(path))
    said = str(ClientUtils.ExecuteCommandAndGetOutput(tuple(names)))
    found = re.search(r"^\s*JobID=([0-9a-fA-F]{24})\s*$", said, re.M)
    if "Result=Success" not in said or not found:
        raise ValueError("Deadline refused the job: " + said)
    return found.group(1), said
