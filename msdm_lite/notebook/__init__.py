"""Players, plots and widgets for chapters and cards. Only `studies` and the chapters import it."""
