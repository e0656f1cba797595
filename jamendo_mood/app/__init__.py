"""The widgets for notebooks and the web page: what a browser sends, and what it is shown.

`static/` is the browser's half of the widgets, scripts without libraries and without a build step; `page/` are the
templates around them. Whatever comes from a browser is checked here before anything else sees it.
"""
