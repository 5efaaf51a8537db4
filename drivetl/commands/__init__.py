"""One module per `drivetl` command: HELP, add_arguments(parser), run(args)."""
