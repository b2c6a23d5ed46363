"""A center server: what it holds, who moves it, what it keeps."""
