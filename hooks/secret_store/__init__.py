"""Parameters and secrets: kept sealed, given by name to the builds of the projects that may have them."""
