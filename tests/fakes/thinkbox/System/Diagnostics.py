"""Stand-in for .NET's System.Diagnostics, as far as plug-ins use it."""


class ProcessPriorityClass:
    BelowNormal = "BelowNormal"
    Normal = "Normal"
