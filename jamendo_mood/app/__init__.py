"""The widgets for notebooks, and the web page that shows them.

`static/` is the browser's half of the widgets: scripts without libraries and without a build step; `page/` has the
templates of the web page. Whatever comes from a browser is checked here before anything else gets it.
"""
