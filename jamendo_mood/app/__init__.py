"""The widgets for notebooks, and the web page that shows them.

`static/` is the browser's half of the widgets: scripts without libraries and without a build step. Whatever comes from
a browser is checked here before anything else gets it.
"""
