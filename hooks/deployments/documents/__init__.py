"""CodeDeploy's documents (groups, configurations, new deployments), read strictly: all faults at once. Pure."""
