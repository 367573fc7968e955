"""The command line: it turns arguments into calls. All computation is in the other packages."""
