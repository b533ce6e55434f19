"""What happens because of a publish: triggers, jobs, builds, pipelines, and their API and pages."""
