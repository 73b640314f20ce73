"""A form that writes a `%%deploy` cell. Nothing here starts anything; ipywidgets is imported when a form is opened."""
