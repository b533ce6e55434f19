"""The package registry: identities and access, repositories, upstreams, formats, API and pages. Complete without hooks/."""
