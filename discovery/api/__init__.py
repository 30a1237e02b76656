"""HTTP: routes by resource, problem documents, `/v2/keys`."""
