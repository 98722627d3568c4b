"""Stand-in for a package of Deadline's interpreter."""
