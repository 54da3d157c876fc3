"""From a latency budget to a measured model: data, teacher, pipeline, search, report, services.

Kept free of imports; import the module that you need, such as ``nas.data.task_data``.
"""
