"""The icon benchmark: names as tasks, the icons of that name in many sets as samples.

The icons come from the npm package `@iconify/json`, at one version, known by its hash.
"""
