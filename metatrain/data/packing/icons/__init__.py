"""The icon benchmark: a task is a name, and its samples are the icons of that name in many sets.

The icons come from one version of the npm package `@iconify/json`, verified by its hash.
"""
