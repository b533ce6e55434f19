"""D1, D2, A13, L5: who may do what where, for every route, and what a right that ended still opens: nothing."""

import html
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import requests
from requests.auth import _basic_auth_str
from werkzeug.routing import Rule

from registry.http.auth import permissions
from registry.token_shape import new_token
from tests.functional.api_world import World
from tests.harness import packages
from tests.security.attack import BOUNDARY, House, Stock, form_fields, multipart, nothing_stored
from tests.security.people import PASSWORD, People, people_of

# --- every route is in a table that somebody read --------------------------------------------------------------------

NPM, NPM_PACKAGE = "/npm/<domain>/<repository>", "/npm/<domain>/<repository>/<npm_package:name>"
NPM_TAGS = f"{NPM}/-/package/<npm_package:name>/dist-tags"
GENERIC, MAVEN = "/generic/<domain>/<repository>", "/maven/<domain>/<repository>"
PYPI, API, REPOSITORY = "/pypi/<domain>/<repository>", "/api/v1", "/api/v1/domains/<domain>/repositories/<repository>"
PACKAGE = f"{REPOSITORY}/packages/<format_name>/<name>"
VERSION = f"{PACKAGE}/versions/<version>"
APPLICATION, DEPLOYMENT = f"{API}/deployment-applications/<application>", f"{API}/deployments/<deployment_id>"
READ, PUBLISH = "client: read on the repository", "client: publish on the repository"
DELETE = "client: codeartifact:DeletePackageVersions on the repository"
METADATA = "client: codeartifact:PutPackageMetadata on the repository"
# Where the body says which it is, and the view asks for that one.
PUBLISH_OR_METADATA = METADATA.replace(": ", ": codeartifact:PublishPackageVersion or ")
DELETE_OR_METADATA = METADATA.replace(": ", ": codeartifact:DeletePackageVersions or ")
DELETE_ALL_OR_ONE = DELETE.replace(": ", ": codeartifact:DeletePackage or ")
API_READ, API_PUBLISH = "api: read on the repository", "api: publish on the repository"
SIGNED_IN, ADMIN, PAGE, OPEN_PAGE, PUBLIC = "api: signed in", "api: admin", "page: signed in", "page: public", "public"
RUNNER, AGENT = "machine: runner", "machine: agent"
JOB, APPLY = "machine: job", "api: entrepot:ApplyPipelines"
MANAGE_AGENTS = "api: entrepot:ManageAgents"
MANAGE_USERS, MANAGE_GROUPS = "api: entrepot:ManageUsers", "api: entrepot:ManageGroups"
API_STATUS = "api: codeartifact:UpdatePackageVersionsStatus on the repository"
CONNECT = "api: codeartifact:AssociateExternalConnection on the repository"
DOMAIN = f"{API}/domains/<domain>"
# What changes nothing but the caller's own credentials needs no more than these, or the right to be there.
OWN_CREDENTIALS = {
    "POST /hooks/v1/<hook_id>": PUBLIC,  # each delivery is signed with the hook's secret
    "POST /hooks/v1/pipelines/<hook_id>": PUBLIC,  # likewise
    f"POST {API}/runner/register": PUBLIC,  # with a registration token, once
    f"POST {API}/agent/enrol": PUBLIC,  # with an enrolment token, once
    f"POST {API}/agent/challenge": PUBLIC,  # worth nothing without the agent's key
    f"POST {API}/agent/session": PUBLIC,  # with what the agent's key has signed, once
    f"POST {API}/leaked-tokens": PUBLIC,  # who has a token could do worse with it than end it
    f"POST {NPM}/-/v1/login": PUBLIC,  # who lets the client in is signed in
    f"PUT {NPM}/-/user/org.couchdb.user:<user>": PUBLIC,  # the password in the body
    f"PUT {NPM}/-/user/org.couchdb.user:<user>/-rev/<rev>": PUBLIC,
    f"DELETE {NPM}/-/user/token/<secret>": READ,
    f"POST {NPM}/-/npm/v1/tokens": READ,
    f"DELETE {NPM}/-/npm/v1/tokens/token/<key>": READ,
}
# Questions that clients ask with a body: they change nothing.
QUESTIONS = {
    f"POST {NPM}/-/npm/v1/security/advisories/bulk": READ,
    f"POST {NPM}/-/npm/v1/security/audits/quick": READ,
    f"POST {NPM}/-/npm/v1/security/audits": READ,
}
POLICY_METHODS = (("GET", "Get", ""), ("PUT", "Put", ""), ("DELETE", "Delete", ""), ("POST", "Put", "/preview"))
REVIEWED = {
    f"GET {PYPI}/simple/": READ,
    f"GET {PYPI}/simple/<project>/": READ,
    f"GET {PYPI}/simple/<project>": READ,
    f"GET {PYPI}/+simple/<project>/": READ,
    f"GET {PYPI}/legacy/+simple/<project>/": READ,
    f"GET {PYPI}/simple/+simple/<project>/": READ,
    f"GET {PYPI}/files/<project>/<filename>": READ,
    f"GET {PYPI}/integrity/<project>/<version>/<filename>/provenance": READ,
    **{
        f"GET {PYPI}{start}/<project>{version}/json{slash}": READ
        for start in ("", "/pypi")
        for version in ("", "/<version>")
        for slash in ("", "/")
    },
    f"POST {PYPI}/": PUBLISH,
    f"POST {PYPI}/legacy/": PUBLISH,
    f"POST {PYPI}/legacy": PUBLISH,
    f"POST {PYPI}/simple/": PUBLISH,
    f"POST {PYPI}/simple": PUBLISH,
    f"GET {GENERIC}/": READ,
    f"GET {GENERIC}/<name>/": READ,
    f"GET {GENERIC}/<name>/<version>/": READ,
    f"GET {GENERIC}/<name>/<version>/<path:path>": READ,
    f"PUT {GENERIC}/<name>/<version>/<path:path>": PUBLISH,
    f"POST {GENERIC}/<name>/<version>/": PUBLISH,
    f"DELETE {GENERIC}/<name>/<version>/": DELETE,
    f"GET {NPM}/": READ,
    f"GET {NPM_PACKAGE}": READ,
    f"GET {NPM_PACKAGE}/<wanted>": READ,
    f"GET {NPM_PACKAGE}/-/<filename>": READ,
    f"GET {NPM_PACKAGE}/-/<scope>/<filename>": READ,
    f"PUT {NPM_PACKAGE}": PUBLISH_OR_METADATA,
    f"PUT {NPM_PACKAGE}/-rev/<rev>": DELETE_OR_METADATA,
    f"DELETE {NPM_PACKAGE}/-rev/<rev>": DELETE_ALL_OR_ONE,
    f"DELETE {NPM_PACKAGE}/-/<filename>/-rev/<rev>": DELETE,
    f"GET {NPM_TAGS}": READ,
    **{f"{method} {NPM_TAGS}": METADATA for method in ("PUT", "POST")},
    **{f"{method} {NPM_TAGS}/<tag>": METADATA for method in ("PUT", "POST", "DELETE")},
    **{f"GET {NPM}/-/{rest}": READ for rest in ("whoami", "npm/v1/user", "npm/v1/tokens", "ping", "npm/v1/keys")},
    **{f"GET {NPM}/-/{rest}": READ for rest in ("v1/search", "npm/v1/attestations/<path:attested>")},
    f"GET {NPM}/-/user/org.couchdb.user:<user>": READ,
    f"GET {NPM}/-/user/<user>/package": READ,  # of others to administrators only
    f"GET {NPM}/-/package/<npm_package:name>/visibility": READ,
    f"GET {NPM}/-/package/<npm_package:name>/collaborators": READ,  # and only who may publish
    f"GET {NPM}/-/v1/done": PUBLIC,  # the one-time secret in the address is the credential
    **{f"{method} {NPM}/<path:rest>": PUBLIC for method in ("GET", "PUT", "POST", "PATCH", "DELETE")},  # refused
    **{f"GET {MAVEN}/{rest}": READ for rest in ("", "<path:path>")},
    **{f"PUT {MAVEN}/{rest}": PUBLISH for rest in ("", "<path:path>")},
    **{f"DELETE {MAVEN}/{rest}": DELETE for rest in ("", "<path:path>")},
    f"GET {API}/whoami": SIGNED_IN,
    **{f"GET {API}/audit{rest}": "api: entrepot:ReadAuditLog" for rest in ("", "/export", "/verification")},
    f"GET {API}/rate-limits": ADMIN,
    f"GET {API}/users": MANAGE_USERS,
    f"POST {API}/users": MANAGE_USERS,
    f"GET {API}/users/<user>": MANAGE_USERS,
    f"PATCH {API}/users/<user>": MANAGE_USERS,
    f"POST {API}/users/<user>/login-link": MANAGE_USERS,  # never for oneself
    f"DELETE {API}/users/<user>": MANAGE_USERS,
    f"POST {API}/users/<user>/password": SIGNED_IN,  # one's own, with the present password; anybody's as administrator
    f"GET {API}/users/<user>/second-factor": ADMIN,
    f"DELETE {API}/users/<user>/second-factor": ADMIN,
    f"DELETE {API}/users/<user>/sessions": ADMIN,
    f"POST {API}/users/<user>/disable": ADMIN,
    f"POST {API}/users/<user>/enable": ADMIN,
    f"GET {API}/tokens": SIGNED_IN,  # one's own
    f"POST {API}/tokens": SIGNED_IN,  # never more than the maker has
    f"GET {API}/tokens/<id:token_id>": SIGNED_IN,  # one's own
    f"DELETE {API}/tokens/<id:token_id>": SIGNED_IN,  # one's own
    f"DELETE {API}/tokens": SIGNED_IN,  # one's own
    f"GET {API}/authorization-token": SIGNED_IN,  # never more than the maker has
    f"POST {API}/authorization-token": SIGNED_IN,
    f"GET {API}/repositories": SIGNED_IN,  # those one may read
    f"GET {API}/domains/<domain>/quota": "api: entrepot:ManageQuotas on the domain",
    f"PUT {API}/domains/<domain>/quota": "api: entrepot:ManageQuotas on the domain",
    f"GET {REPOSITORY}/quota": API_READ,
    f"PUT {REPOSITORY}/quota": "api: entrepot:ManageQuotas on the repository",
    f"GET {API}/domains/<domain>/keys": "api: entrepot:ManageKeys on the domain",  # ids, states and counts; no key
    f"POST {API}/domains/<domain>/keys/rotate": "api: entrepot:ManageKeys on the domain",
    f"GET {API}/domains/<domain>/keys/verification": "api: entrepot:ManageKeys on the domain",  # what does not open
    **{
        f"{method} {API}/keys{rest}": "api: entrepot:ManageKeys"
        for method, rest in (("GET", ""), ("POST", "/rotate"), ("GET", "/verification"))
    },
    f"GET {API}/domains": SIGNED_IN,  # those one may look into
    f"POST {API}/domains": "api: codeartifact:CreateDomain",
    f"GET {DOMAIN}": SIGNED_IN,  # the same
    f"DELETE {DOMAIN}": "api: codeartifact:DeleteDomain on the domain",
    **{
        f"{method} {DOMAIN}/permissions/policy{rest}": f"api: codeartifact:{verb}DomainPermissionsPolicy on the domain"
        for method, verb, rest in POLICY_METHODS
    },
    **{
        f"{method} {REPOSITORY}/permissions/policy{rest}": f"api: codeartifact:{verb}RepositoryPermissionsPolicy on the repository"
        for method, verb, rest in POLICY_METHODS
    },
    f"GET {API}/roles": SIGNED_IN,
    f"GET {API}/role-grants": SIGNED_IN,  # of the places whose roles one manages
    f"POST {API}/role-grants": SIGNED_IN,  # the right to manage roles there is checked inside
    f"DELETE {API}/role-grants/<id:grant_id>": SIGNED_IN,  # the same
    f"GET {API}/groups": MANAGE_GROUPS,
    f"POST {API}/groups": MANAGE_GROUPS,
    f"GET {API}/groups/<group>": MANAGE_GROUPS,
    f"DELETE {API}/groups/<group>": MANAGE_GROUPS,
    f"PUT {API}/groups/<group>/members/<user>": MANAGE_GROUPS,
    f"DELETE {API}/groups/<group>/members/<user>": MANAGE_GROUPS,
    f"GET {API}/explain/access": SIGNED_IN,  # about oneself; of others with the right to
    f"POST {API}/domains/<domain>/repositories": "api: codeartifact:CreateRepository on the domain",
    f"GET {REPOSITORY}": API_READ,
    f"GET {REPOSITORY}/endpoint": API_READ.replace("read", "codeartifact:GetRepositoryEndpoint"),
    f"PATCH {REPOSITORY}": "api: codeartifact:UpdateRepository on the repository",
    f"DELETE {REPOSITORY}": "api: codeartifact:DeleteRepository on the repository",
    f"GET {REPOSITORY}/connections": API_READ,  # never with a credential in it
    f"POST {REPOSITORY}/connections": CONNECT,
    f"PATCH {REPOSITORY}/connections/<format_name>/<name>": CONNECT,
    f"DELETE {REPOSITORY}/connections/<format_name>/<name>": CONNECT.replace("Associate", "Disassociate"),
    f"GET {REPOSITORY}/packages": API_READ.replace("read", "codeartifact:ListPackages"),
    f"GET {REPOSITORY}/packages/<format_name>/<name>": API_READ.replace("read", "codeartifact:DescribePackage"),
    f"PUT {REPOSITORY}/packages/<format_name>/<name>/origin-configuration": "api: codeartifact:PutPackageOriginConfiguration on the repository",
    f"GET {REPOSITORY}/packages/<format_name>/<name>/origin-configuration": API_READ,
    f"GET {REPOSITORY}/packages/<format_name>/<name>/explain": API_READ,
    **{
        f"{method} {API}/domains/<domain>/package-group": f"api: codeartifact:{verb}PackageGroup on the domain"
        for method, verb in (("POST", "Create"), ("PUT", "Update"), ("DELETE", "Delete"))
    },
    f"PUT {API}/domains/<domain>/package-group-origin-configuration": (
        "api: codeartifact:UpdatePackageGroupOriginConfiguration on the domain"
    ),
    # Of a domain of which one may read a repository; packages of those repositories only.
    **{
        f"GET {API}/domains/<domain>/{rest}": SIGNED_IN
        for rest in (
            "package-group",
            "package-group-allowed-repositories",
            "package-groups",
            "package-groups/sub-groups",
            "get-associated-package-group",
            "list-associated-packages",
        )
    },
    f"PUT {REPOSITORY}/packages/<format_name>/<name>/status": API_STATUS,
    f"GET {VERSION}": API_READ.replace("read", "codeartifact:DescribePackageVersion"),
    f"POST {VERSION}/promote": SIGNED_IN,  # two repositories are concerned: checked inside
    f"POST {VERSION}/yank": API_STATUS,
    f"POST {VERSION}/unyank": API_STATUS,
    f"POST {VERSION}/finish": API_PUBLISH,
    f"GET {PACKAGE}/versions": API_READ.replace("read", "codeartifact:ListPackageVersions"),
    f"POST {PACKAGE}/versions/copy": SIGNED_IN,  # as promotion
    f"POST {PACKAGE}/versions/update_status": API_STATUS,
    f"POST {PACKAGE}/versions/dispose": "api: codeartifact:DisposePackageVersions on the repository",
    f"POST {PACKAGE}/versions/delete": "api: codeartifact:DeletePackageVersions on the repository",
    f"DELETE {PACKAGE}": "api: codeartifact:DeletePackage on the repository",
    f"GET {VERSION}/assets": API_READ.replace("read", "codeartifact:ListPackageVersionAssets"),
    f"GET {VERSION}/asset": API_READ.replace("read", "codeartifact:GetPackageVersionAsset"),
    f"GET {VERSION}/readme": API_READ.replace("read", "codeartifact:GetPackageVersionReadme"),
    f"GET {VERSION}/advisories": API_READ.replace("read", "codeartifact:DescribePackageVersion"),
    f"GET {VERSION}/provenance": API_READ.replace("read", "codeartifact:DescribePackageVersion"),
    f"GET {VERSION}/dependencies": API_READ.replace("read", "codeartifact:ListPackageVersionDependencies"),
    f"POST {VERSION}/reopen": "api: entrepot:ReopenRelease on the repository",
    f"DELETE {VERSION}": "api: codeartifact:DeletePackageVersions on the repository",
    **OWN_CREDENTIALS,
    **QUESTIONS,
    "GET /sign-in/client": PAGE,
    "POST /sign-in/client": PAGE,
    f"GET {API}/openapi.json": PUBLIC,
    f"PUT {API}/declarations": ADMIN,
    f"PUT {API}/pipelines": ADMIN,
    f"POST {API}/pipelines/lint": SIGNED_IN,  # reads a text that the caller brings, and which types of actions there are
    f"GET {API}/pipelines": SIGNED_IN,
    f"GET {API}/pipelines/<pipeline>": SIGNED_IN,
    f"GET {API}/pipelines/<pipeline>/executions": SIGNED_IN,
    f"POST {API}/pipelines/<pipeline>/executions": SIGNED_IN,
    f"GET {API}/executions/<id:execution_id>": SIGNED_IN,
    f"POST {API}/executions/<id:execution_id>/approval": SIGNED_IN,
    f"POST {API}/executions/<id:execution_id>/stop": SIGNED_IN,
    f"POST {API}/executions/<id:execution_id>/retry": SIGNED_IN,
    f"POST {API}/executions/<id:execution_id>/rollback": SIGNED_IN,
    f"GET {API}/pipelines/<pipeline>/state": SIGNED_IN,
    f"POST {API}/pipelines/<pipeline>/transition": ADMIN,
    f"POST {API}/pipelines/<pipeline>/release": SIGNED_IN,  # the right to approve where the held stage leads
    f"POST {API}/executions/<id:execution_id>/override": SIGNED_IN,
    f"POST {API}/executions/<id:execution_id>/pass": ADMIN,
    f"GET {API}/freezes": SIGNED_IN,
    f"POST {API}/freezes": ADMIN,
    f"DELETE {API}/freezes/<name>": ADMIN,
    f"GET {API}/builds": SIGNED_IN,
    f"GET {API}/builds/<build_id>": SIGNED_IN,
    f"GET {API}/builds/<build_id>/log": SIGNED_IN,
    f"GET {API}/builds/<build_id>/artifacts": SIGNED_IN,
    f"GET {API}/builds/<build_id>/artifacts/<artifact_identifier>": SIGNED_IN,
    f"GET {API}/builds/<build_id>/artifacts/<artifact_identifier>/members": SIGNED_IN,
    f"POST {API}/builds/<build_id>/stop": SIGNED_IN,
    f"POST {API}/builds/<build_id>/resume": SIGNED_IN,
    f"GET {API}/builds/<build_id>/reports": SIGNED_IN,
    f"GET {API}/report-groups": SIGNED_IN,  # those with a report of a build that may be read; so are those below
    f"GET {API}/report-groups/<name>": SIGNED_IN,
    f"GET {API}/report-groups/<name>/reports": SIGNED_IN,
    f"GET {API}/report-groups/<name>/trend": SIGNED_IN,
    f"GET {API}/report-groups/<name>/flaky": SIGNED_IN,
    f"GET {API}/report-groups/<name>/test-cases/<case_key>": SIGNED_IN,
    f"GET {API}/reports/<report_id>": SIGNED_IN,
    f"GET {API}/reports/<report_id>/test-cases": SIGNED_IN,
    f"GET {API}/reports/<report_id>/coverage": SIGNED_IN,
    f"POST {API}/builds/<build_id>/retry": SIGNED_IN,
    # A project's own repository decides: read to see it, publish to start it, admin on the domain to change it.
    f"GET {API}/build-projects": SIGNED_IN,
    **{f"{method} {API}/build-projects/<project>": SIGNED_IN for method in ("GET", "PUT", "DELETE")},
    **{f"{method} {API}/build-projects/<project>/source-credential": SIGNED_IN for method in ("PUT", "DELETE")},
    f"POST {API}/build-projects/<project>/builds": SIGNED_IN,
    f"POST {API}/build-sources": SIGNED_IN,
    f"POST {API}/build-projects/<project>/batches": SIGNED_IN,
    **{f"GET {API}/build-batches{rest}": SIGNED_IN for rest in ("", "/batch-get", "/<batch_id>")},
    **{f"POST {API}/build-batches/<batch_id>/{word}": SIGNED_IN for word in ("stop", "retry")},
    **{f"{method} {API}/build-projects/<project>/webhooks": SIGNED_IN for method in ("GET", "POST")},
    **{f"{method} {API}/build-projects/<project>/webhooks/<hook_id>": SIGNED_IN for method in ("PATCH", "DELETE")},
    f"GET {API}/git-connections": ADMIN,
    # A bucket's repository decides: read to see what is in it, publish to put something there.
    **{f"GET {API}/source-buckets{rest}": SIGNED_IN for rest in ("", "/<bucket>/objects")},
    **{f"{method} {API}/source-buckets/<bucket>": ADMIN for method in ("PUT", "DELETE")},
    f"PUT {API}/source-buckets/<bucket>/objects/<path:key>": SIGNED_IN,
    **{f"{method} {API}/git-connections/<connection>": ADMIN for method in ("PUT", "DELETE")},
    **{f"{method} {API}/pipelines/<pipeline>/webhooks": ADMIN for method in ("GET", "POST")},
    f"DELETE {API}/pipelines/<pipeline>/webhooks/<hook_id>": ADMIN,
    f"GET {API}/pipelines/<pipeline>/sources": ADMIN,
    f"DELETE {API}/pipelines/<pipeline>/definition-source": ADMIN,
    f"GET {API}/builds/<build_id>/log/stream": SIGNED_IN,
    f"GET {API}/builds/<build_id>/log/search": SIGNED_IN,
    f"GET {API}/parameters": "api: ssm:DescribeParameters",
    f"GET {API}/parameters/<path:value_name>": "api: ssm:DescribeParameters",
    **{f"{method} {API}/parameters/<path:value_name>": "api: ssm:PutParameter" for method in ("PUT", "PATCH")},
    f"DELETE {API}/parameters/<path:value_name>": "api: ssm:DeleteParameter",
    f"POST {API}/parameter-values": "api: ssm:GetParameters",  # the value itself
    f"GET {API}/secrets": "api: secretsmanager:ListSecrets",
    f"GET {API}/secrets/<path:value_name>": "api: secretsmanager:DescribeSecret",
    f"PUT {API}/secrets/<path:value_name>": "api: secretsmanager:PutSecretValue",
    f"PATCH {API}/secrets/<path:value_name>": "api: secretsmanager:UpdateSecret",
    f"DELETE {API}/secrets/<path:value_name>": "api: secretsmanager:DeleteSecret",
    f"POST {API}/secret-values": "api: secretsmanager:GetSecretValue",  # the value itself
    f"POST {API}/advisories": ADMIN,
    f"DELETE {API}/advisories/<advisory>": ADMIN,
    f"GET {API}/destinations": ADMIN,  # without credentials
    **{f"{method} {API}/destinations/<destination>": ADMIN for method in ("GET", "PUT", "DELETE")},
    **{f"{method} {API}/runners": ADMIN for method in ("GET", "POST")},
    **{f"{method} {API}/runners/<runner>": ADMIN for method in ("GET", "DELETE")},
    **{f"POST {API}/runners/<runner>/{word}": ADMIN for word in ("registration-token", "revoke")},
    # An application's domain decides: read to see it, promote to deploy it, admin on the domain to change it.
    **{f"{method} {API}/deployment-applications": SIGNED_IN for method in ("GET", "POST")},
    **{f"{method} {APPLICATION}": SIGNED_IN for method in ("GET", "PATCH", "DELETE")},
    f"POST {APPLICATION}/uploads": SIGNED_IN,
    f"GET {APPLICATION}/groups": SIGNED_IN,
    **{f"{method} {APPLICATION}/groups/<group>": SIGNED_IN for method in ("GET", "PUT", "DELETE")},
    f"GET {APPLICATION}/groups/<group>/targets": SIGNED_IN,
    # Configurations are everybody's to see, and the server's administrators' to make.
    **{f"{method} {API}/deployment-configs": SIGNED_IN for method in ("GET", "POST")},
    **{f"{method} {API}/deployment-configs/<config>": SIGNED_IN for method in ("GET", "DELETE")},
    # Who may read the domain sees its alarms; who may deploy there tells their states.
    f"GET {API}/domains/<domain>/deployment-alarms": SIGNED_IN,
    **{f"{method} {API}/domains/<domain>/deployment-alarms/<alarm>": SIGNED_IN for method in ("PUT", "DELETE")},
    **{f"{method} {API}/deployments": SIGNED_IN for method in ("GET", "POST")},
    **{f"POST {API}/deployments/{word}": SIGNED_IN for word in ("preview", "batch")},
    f"PUT {DEPLOYMENT}/hook-status": SIGNED_IN,  # who may deploy, and knows the execution's id
    f"GET {DEPLOYMENT}": SIGNED_IN,
    **{f"POST {DEPLOYMENT}/{word}": SIGNED_IN for word in ("stop", "continue", "pause", "resume", "retry", "rollback")},
    **{f"GET {DEPLOYMENT}/targets{rest}": SIGNED_IN for rest in ("", "/<id:target_id>")},
    **{f"POST {DEPLOYMENT}/targets/<id:target_id>/{word}": SIGNED_IN for word in ("skip", "answer")},
    # Types of actions are everybody's to see, and theirs to make who may apply pipelines.
    f"GET {API}/action-types": SIGNED_IN,
    f"POST {API}/action-types": APPLY,
    f"DELETE {API}/action-types/<category>/<provider>/<type_version>": APPLY,
    f"GET {API}/action-webhooks": APPLY,
    **{f"{method} {API}/action-webhooks/<webhook_name>": APPLY for method in ("PUT", "DELETE")},
    # The workers that a type names, of executions whose package they may read.
    f"POST {API}/jobs/poll": SIGNED_IN,
    f"GET {API}/jobs/<job>": SIGNED_IN,
    **{f"POST {API}/jobs/<job>/{word}": SIGNED_IN for word in ("acknowledge", "success", "failure")},
    # What a job's own token opens, and no other job's.
    f"GET {API}/job-artifacts/<job>/inputs/<artifact>/<path:filename>": JOB,
    f"PUT {API}/job-artifacts/<job>/outputs/<artifact>": JOB,
    **{f"POST {API}/job-results/<job>/{word}": JOB for word in ("success", "failure")},
    # What runners ask with a credential of their own, which no account has; about a lease with its token as well.
    f"POST {API}/runner/claim": RUNNER,
    **{
        f"{method} {API}/runner/leases/<lease>/{rest}": RUNNER
        for method, rest in (
            *(("POST", word) for word in ("heartbeat", "facts", "values", "batch", "cache", "finish", "give-back")),
            *(("PUT", word) for word in ("log", "phases", "artifacts/<identifier>", "cache", "reports")),
            ("GET", "source"),
        )
    },
    **{f"{method} {API}/agents": MANAGE_AGENTS for method in ("GET", "POST")},
    **{f"{method} {API}/agents/<agent>": MANAGE_AGENTS for method in ("GET", "PATCH", "DELETE")},
    **{f"POST {API}/agents/<agent>/{word}": MANAGE_AGENTS for word in ("enrolment-token", "revoke")},
    f"DELETE {API}/agents/<agent>/alarm": MANAGE_AGENTS,
    f"GET {API}/agents/<agent>/provenance": MANAGE_AGENTS,
    # What went where and why: each part of it is told to whom the repository, execution, build or application is shown.
    f"GET {API}/domains/<domain>/packages/<format_name>/<name>/versions/<version>/life": SIGNED_IN,
    f"GET {API}/deployment-applications/<application>/groups/<group>/provenance": SIGNED_IN,
    **{f"GET {API}/{word}": SIGNED_IN for word in ("board", "figures", "pipelines/<pipeline>/feed")},
    f"GET {API}/domains/<domain>/repositories/<repository>/feed": API_READ,
    # What agents ask in a session of their own; each event has to be one of their own targets.
    **{f"POST {API}/agent/{word}": AGENT for word in ("poll", "installed")},
    **{f"POST {API}/agent/events/<id:event>/{word}": AGENT for word in ("begin", "complete")},
    **{f"GET {API}/agent/events/<id:event>/{word}": AGENT for word in ("bundle", "files")},
    f"POST {API}/agent/events/<id:event>/credential": AGENT,  # reads the repository of what is installed
    f"GET {API}/event-kinds": SIGNED_IN,
    f"GET {API}/webhooks": SIGNED_IN,  # one's own; all of them as administrator
    f"POST {API}/webhooks": SIGNED_IN,  # who administers what it hears of
    **{f"{method} {API}/webhooks/<id:webhook>": SIGNED_IN for method in ("GET", "PATCH", "DELETE")},
    **{
        f"POST {API}/webhooks/<id:webhook>/{word}": SIGNED_IN
        for word in ("enable", "disable", "ping", "secret", "deliveries", "deliveries/<delivery>")
    },
    f"GET {API}/webhooks/<id:webhook>/deliveries": SIGNED_IN,
    f"GET {API}/webhooks/<id:webhook>/deliveries/<delivery>": SIGNED_IN,  # answers to the owner only
    f"GET {API}/subscriptions": SIGNED_IN,  # one's own, as those below
    f"POST {API}/subscriptions": SIGNED_IN,
    f"DELETE {API}/subscriptions/<id:subscription>": SIGNED_IN,
    f"PUT {API}/mail-address": SIGNED_IN,
    f"DELETE {API}/mail-address": SIGNED_IN,
    "GET /static/<name>": PUBLIC,
    "POST /theme": OPEN_PAGE,
    "GET /sign-in": OPEN_PAGE,
    "POST /sign-in": OPEN_PAGE,
    "GET /sign-in/second-factor": OPEN_PAGE,
    "POST /sign-in/second-factor": OPEN_PAGE,
    "GET /sign-in/with/<provider>": OPEN_PAGE,
    "GET /sign-in/with/<provider>/return": OPEN_PAGE,
    "GET /account/prove": PAGE,
    "POST /account/prove": PAGE,
    "GET /account/second-factor": PAGE,
    "POST /account/second-factor": PAGE,
    "POST /account/second-factor/confirm": PAGE,
    "POST /account/second-factor/codes": PAGE,
    "POST /account/second-factor/codes.txt": PAGE,
    "POST /account/second-factor/remove": PAGE,
    "POST /account/sessions/<handle>/end": PAGE,
    "POST /sign-out": PAGE,
    "GET /setup": OPEN_PAGE,
    "POST /setup": OPEN_PAGE,
    "GET /account": PAGE,
    "GET /audit": PAGE,  # for administrators: checked inside, as the two below
    "GET /audit/export.jsonl": PAGE,
    "POST /audit/verify": PAGE,
    "GET /administration": PAGE,  # lists what one may steer
    **{
        f"{method} /access/users{rest}": PAGE  # the right to manage users is checked inside
        for method, rest in (
            ("GET", ""),
            ("POST", ""),
            ("GET", "/<user>"),
            ("POST", "/<user>"),
            ("POST", "/<user>/join"),
            *(
                ("POST", f"/<user>/{act}")
                for act in ("disable", "enable", "delete", "login-link", "sign-out", "second-factor/reset")
            ),
        )
    },
    "GET /access/groups": PAGE,  # the right to manage groups inside
    "GET /access/groups/<group>": PAGE,
    **{f"{method} /domains/<domain>/new-repository": PAGE for method in ("GET", "POST")},
    **{f"{method} /repositories/<domain>/<repository>/settings": PAGE for method in ("GET", "POST")},
    "GET /quotas": PAGE,  # shows the domains whose quotas one manages
    **{f"{method} /quotas/<domain>": PAGE for method in ("GET", "POST")},
    "POST /quotas/<domain>/<repository>": PAGE,
    **{f"{method} /destinations": PAGE for method in ("GET", "POST")},  # the server's administrators, as the next
    "POST /destinations/<destination>/delete": PAGE,
    "GET /action-types": PAGE,  # for those who may apply pipelines: checked inside
    "GET /runners": PAGE,  # for administrators: checked inside, as those below
    "POST /runners": PAGE,
    **{f"POST /runners/<runner>/{word}": PAGE for word in ("token", "revoke", "delete")},
    "GET /agents": PAGE,  # the right to manage agents is checked inside, as below
    "POST /agents": PAGE,
    **{f"POST /agents/<agent>/{word}": PAGE for word in ("token", "tags", "alarm", "revoke", "delete")},
    "GET /agents/<agent>": PAGE,
    "GET /packages/<domain>/<repository>/<format_name>/<path:name>/-/<version>/life": PAGE,  # reads the repository
    **dict.fromkeys(("GET /board", "GET /figures"), PAGE),  # each sees their own
    # Applications are their domain's: each view asks for its rights there, and who may not see one is told of none.
    **dict.fromkeys(("GET /deployments", "GET /environments", "GET /environments/live"), PAGE),
    **{f"GET /applications/<application>{rest}": PAGE for rest in ("", "/groups/<deployment_group>")},
    "GET /applications/<application>/groups/<deployment_group>/provenance": PAGE,
    **{f"{method} /applications/<application>/deploy": PAGE for method in ("GET", "POST")},
    **{f"GET /deployments/<deployment_id>{rest}": PAGE for rest in ("", "/live", "/targets/<int:target_id>")},
    **{
        f"POST /deployments/<deployment_id>/{word}": PAGE
        for word in ("stop", "pause", "resume", "continue", "retry", "rollback")
    },
    **{f"POST /deployments/<deployment_id>/targets/<int:target_id>/{word}": PAGE for word in ("skip", "answer")},
    "GET /keys": PAGE,  # shows the keys one manages
    **{f"POST /keys/{whose}/{act}": PAGE for whose in ("server", "domains/<domain>") for act in ("rotate", "verify")},
    "POST /account/sign-out-everywhere": PAGE,
    "GET /access": PAGE,  # what is on it and below is decided by the rights to manage, inside
    "POST /access/domains": PAGE,
    "POST /access/domains/<domain>/delete": PAGE,
    "POST /access/roles": PAGE,
    "POST /access/roles/<int:grant_id>/revoke": PAGE,
    "POST /access/groups": PAGE,
    "POST /access/groups/<group>/delete": PAGE,
    "POST /access/groups/<group>/members": PAGE,
    "POST /access/groups/<group>/members/<user>/remove": PAGE,
    **{f"{method} /access/policy/<domain>{rest}": PAGE for method in ("GET", "POST") for rest in ("", "/<repository>")},
    "GET /account/password": PAGE,
    "POST /account/password": PAGE,
    "GET /account/tokens": PAGE,
    "POST /account/tokens": PAGE,
    "POST /packages/<domain>/<repository>/<format_name>/<path:name>/status": PAGE,  # the right to publish is checked inside, as for the three below
    "POST /packages/<domain>/<repository>/<format_name>/<path:name>/-/<version>/yank": PAGE,
    "POST /packages/<domain>/<repository>/<format_name>/<path:name>/-/<version>/unyank": PAGE,
    "POST /packages/<domain>/<repository>/<format_name>/<path:name>/-/<version>/delete": PAGE,
    "POST /packages/<domain>/<repository>/<format_name>/<path:name>/origin": PAGE,  # the right to administer inside
    "GET /package-groups/<domain>": PAGE,  # of a domain of which one may read a repository
    "GET /package-groups/<domain>/group": PAGE,
    **{
        f"POST /package-groups/<domain>{rest}": PAGE for rest in ("", "/group", "/group/delete")
    },  # administrators inside
    "GET /versions/<domain>/<repository>/<format_name>/<path:name>": PAGE,  # the right to publish, or to promote, is checked inside
    "POST /versions/<domain>/<repository>/<format_name>/<path:name>": PAGE,
    "POST /account/tokens/<int:token_id>/revoke": PAGE,
    "POST /account/tokens/revoke-all": PAGE,
    "POST /account/leaks/seen": PAGE,
    "GET /": OPEN_PAGE,
    "GET /search": OPEN_PAGE,
    "GET /repositories/<domain>/<repository>": OPEN_PAGE,
    "GET /packages/<domain>/<repository>/<format_name>/<path:name>": OPEN_PAGE,
    "GET /packages/<domain>/<repository>/<format_name>/<path:name>/-/<version>": OPEN_PAGE,
    "GET /design": PAGE,
    "GET /pipelines": PAGE,
    "GET /pipelines/<name>": PAGE,
    "POST /pipelines/<name>/start": PAGE,
    "GET /executions/<int:execution_id>": PAGE,
    "GET /executions/<int:execution_id>/live": PAGE,
    "POST /executions/<int:execution_id>/approval": PAGE,
    "POST /executions/<int:execution_id>/stop": PAGE,
    "POST /executions/<int:execution_id>/retry": PAGE,
    "POST /executions/<int:execution_id>/rollback": PAGE,
    "POST /pipelines/<name>/transition": PAGE,
    **{f"POST /pipelines/<name>/{word}": PAGE for word in ("release", "freeze", "unfreeze")},
    **{f"POST /executions/<int:execution_id>/{word}": PAGE for word in ("override", "pass")},
    "GET /approvals": PAGE,
    "GET /builds/<build_id>": PAGE,
    "GET /builds/<build_id>/live": PAGE,
    "GET /builds/<build_id>/log": PAGE,
    "GET /builds/<build_id>/artifacts/<artifact_identifier>": PAGE,
    "GET /builds/<build_id>/artifacts/<artifact_identifier>/download": PAGE,
    "GET /builds/<build_id>/log.txt": PAGE,
    "GET /builds/<build_id>/log/stream": PAGE,
    **{f"{method} /secrets": PAGE for method in ("GET", "POST")},  # the server's administrators, as those below
    "GET /secrets/<int:value_id>": PAGE,
    **{f"POST /secrets/<int:value_id>/{word}": PAGE for word in ("value", "about", "delete")},
    "POST /builds/<build_id>/stop": PAGE,
    "POST /builds/<build_id>/resume": PAGE,
    "GET /reports/<report_id>": PAGE,
    "GET /report-groups": PAGE,
    "GET /report-groups/<name>": PAGE,
    "GET /report-groups/<name>/test-cases/<case_key>": PAGE,
    "POST /builds/<build_id>/retry": PAGE,
    "GET /build-projects": PAGE,
    "GET /build-projects/<name>": PAGE,
    "POST /build-projects/<name>/start": PAGE,
    "POST /build-projects/<name>/start-batch": PAGE,
    "POST /build-projects/<name>/webhooks": PAGE,  # who may change the project; so for those below
    **{f"POST /build-projects/<name>/webhooks/<hook_id>{rest}": PAGE for rest in ("", "/rotate", "/delete")},
    **{f"GET /build-batches/<batch_id>{rest}": PAGE for rest in ("", "/live")},
    **{f"POST /build-batches/<batch_id>/{word}": PAGE for word in ("stop", "retry")},
    "GET /webhooks": PAGE,
    "POST /webhooks": PAGE,  # who administers what it hears of; those below: its owner, and administrators
    **{f"{method} /webhooks/<int:webhook_id>": PAGE for method in ("GET", "POST")},
    **{
        f"POST /webhooks/<int:webhook_id>/{word}": PAGE
        for word in ("delete", "enable", "disable", "ping", "rotate", "redeliver")
    },
    "GET /webhooks/<int:webhook_id>/deliveries/<delivery_id>": PAGE,
    "POST /webhooks/<int:webhook_id>/deliveries/<delivery_id>/redeliver": PAGE,
    "GET /account/notifications": PAGE,
    "POST /account/notifications": PAGE,
    "POST /account/notifications/<int:subscription_id>/remove": PAGE,  # one's own
    "POST /account/notifications/address": PAGE,
    "POST /account/notifications/address/remove": PAGE,
    "GET /account/notifications/confirm": PAGE,
    "POST /account/notifications/confirm": PAGE,  # the code in the mail, as who asked for it
    "GET /metrics": SIGNED_IN,  # each caller sees the projects that they may see
    "GET /healthz": PUBLIC,
    "GET /readyz": PUBLIC,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"))
    yield made
    made.close()


def declared(world: World) -> dict[str, str]:
    by_endpoint = permissions(world.app)
    return {
        f"{method} {rule.rule}": re.sub(r"public: .*", "public", by_endpoint[rule.endpoint])
        for rule in world.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def test_every_route_has_the_permission_that_was_reviewed(world: World) -> None:
    assert declared(world) == REVIEWED


def test_no_change_is_allowed_by_a_right_to_read(world: World) -> None:
    changing = {route: right for route, right in declared(world).items() if not route.startswith("GET ")}
    harmless = {*OWN_CREDENTIALS, *QUESTIONS}
    harmless |= {route for route in changing if route.endswith(f"{NPM}/<path:rest>")}
    assert changing
    assert not [
        route for route, right in changing.items() if ("read" in right or right == PUBLIC) and route not in harmless
    ]


def test_a_route_without_a_permission_stops_the_application(world: World) -> None:
    """The negative control: what the first test would miss, the application itself refuses."""
    world.app.view_functions["forgotten"] = lambda: ""
    world.app.url_map.add(Rule("/forgotten", endpoint="forgotten"))
    with pytest.raises(RuntimeError, match="/forgotten"):
        permissions(world.app)


# --- the matrix, through the real server -----------------------------------------------------------------------------

FILENAME, BODY = packages.wheel("demo", "1.0")
STAGING = "/pypi/default/staging"
COLUMNS: dict[str, tuple[str, str]] = {
    "list": ("GET", f"{STAGING}/simple/"),
    "page": ("GET", f"{STAGING}/simple/demo/"),
    "page (HEAD)": ("HEAD", f"{STAGING}/simple/demo/"),
    "file": ("GET", f"{STAGING}/files/demo/{FILENAME}"),
    "file (HEAD)": ("HEAD", f"{STAGING}/files/demo/{FILENAME}"),
    "metadata": ("GET", f"{STAGING}/files/demo/{FILENAME}.metadata"),
    "upload": ("POST", f"{STAGING}/"),
}
MATRIX = {  # who: what reading gives, what publishing gives
    "anonymous": (401, 401),
    "unknown token": (401, 401),
    "cut token": (401, 401),
    "wrong password": (401, 401),
    "expired": (401, 401),
    "revoked": (401, 401),
    "disabled user": (401, 401),
    "reader elsewhere": (403, 403),
    "publisher elsewhere": (403, 403),
    "reader": (200, 403),
    "reader's token that says publish": (200, 403),
    "publisher's token that says read": (200, 403),
    "publisher's token for elsewhere": (403, 403),
    "promoter": (403, 403),
    "publisher": (200, 200),
    "password": (200, 403),
}


@pytest.fixture(scope="module")
def people(house: House) -> Iterator[People]:
    with people_of(house.server.data) as found:
        yield found


@pytest.fixture(scope="module")
def callers(house: House, people: People) -> dict[str, dict[str, str]]:
    """Authorization headers by who calls; demo 1.0 is published in staging."""
    staging, elsewhere = ["default/staging"], ["default/prod", "default/dev"]
    reader = people.add("reader", "read", repositories=staging, password=PASSWORD)
    publisher = people.add("publisher", "read", "publish", repositories=staging)
    disabled = people.add("disabled", "read", "publish", repositories=staging)
    people.change("disabled", is_disabled=True)
    revoked = people.token("publisher", "read", "publish")
    people.revoke(revoked)
    tokens = {
        "unknown token": new_token(),
        "cut token": publisher[:-1],
        "expired": people.token("publisher", "read", "publish", age=timedelta(hours=2), life=timedelta(hours=1)),
        "revoked": revoked,
        "disabled user": disabled,
        "reader elsewhere": people.add("reader-elsewhere", "read", repositories=elsewhere),
        "publisher elsewhere": people.add("publisher-elsewhere", "read", "publish", repositories=elsewhere),
        "reader": reader,
        "reader's token that says publish": people.token("reader", "read", "publish"),
        "publisher's token that says read": people.token("publisher", "read"),
        "publisher's token for elsewhere": people.token("publisher", "read", "publish", repositories=elsewhere),
        "promoter": people.add("promoter", "promote", "approve", repositories=staging),
        "publisher": publisher,
    }
    headers = {name: {"Authorization": f"Bearer {token}"} for name, token in tokens.items()}
    headers["anonymous"] = {}
    headers["password"] = {"Authorization": _basic_auth_str("reader", PASSWORD)}
    headers["wrong password"] = {"Authorization": _basic_auth_str("publisher", "wrong" * 3)}
    assert publish(house, headers["publisher"]).status_code == 200
    return headers


def publish(house: House, headers: dict[str, str], path: str = f"{STAGING}/") -> requests.Response:
    form = multipart(form_fields(FILENAME, BODY), [("content", FILENAME.encode(), BODY)])
    headers = {**headers, "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return requests.post(f"{house.server.url}{path}", data=form, headers=headers, timeout=20)


def ask(house: House, column: str, headers: dict[str, str]) -> requests.Response:
    method, path = COLUMNS[column]
    if method == "POST":
        return publish(house, headers, path)
    return requests.request(method, f"{house.server.url}{path}", headers=headers, timeout=20, allow_redirects=False)


@pytest.mark.parametrize("who", [who for who in MATRIX if who != "wrong password"])
def test_matrix(house: House, callers: dict[str, dict[str, str]], who: str) -> None:
    reading, publishing = MATRIX[who]
    expected = {column: publishing if column == "upload" else reading for column in COLUMNS}
    before = Stock.of(house.server.data)
    answers = {column: ask(house, column, callers[who]) for column in COLUMNS}
    assert {column: answer.status_code for column, answer in answers.items()} == expected
    for answer in answers.values():
        assert ("WWW-Authenticate" in answer.headers) == (answer.status_code == 401)
        if answer.status_code >= 400:
            assert b"demo-1.0" not in answer.content
    assert Stock.of(house.server.data) == before  # the same bytes again add nothing, and refusals even less


def test_matrix_wrong_password(house: House, callers: dict[str, dict[str, str]]) -> None:
    """Apart from the others: failed passwords are counted, and only the first ones are answered by 401."""
    answers = [
        ask(house, column, callers["wrong password"]).status_code for column in ("page", "file (HEAD)", "upload")
    ]
    assert answers == [401, 401, 401]


# --- rights that end -------------------------------------------------------------------------------------------------

ENDINGS: dict[str, Callable[[People, str, str], None]] = {
    "revoked": lambda people, _, token: people.revoke(token),
    "disabled": lambda people, name, _: people.change(name, is_disabled=True),
    "moved elsewhere": lambda people, name, _: people.change(name, repositories=["default/prod"]),
    "without actions": lambda people, name, _: people.change(name, actions=[]),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_end_counts_from_the_next_request(
    house: House, callers: dict[str, dict[str, str]], people: People, ending: str
) -> None:
    assert callers
    name = f"leaver-{ending.replace(' ', '-')}"
    token = people.add(name, "read", "publish", repositories=["default/staging"])
    headers = {"Authorization": f"Bearer {token}"}
    # Several times, so that each process of the server has seen the token and could remember it.
    assert {ask(house, column, headers).status_code for column in COLUMNS for _ in range(3)} == {200}
    ENDINGS[ending](people, name, token)
    refused = {ask(house, column, headers).status_code for column in COLUMNS for _ in range(3)}
    assert refused <= {401, 403}
    whoami = requests.get(f"{house.server.url}/api/v1/whoami", headers=headers, timeout=10).status_code
    assert whoami == (401 if ending in {"revoked", "disabled"} else 200)


def test_a_token_that_is_revoked_while_an_upload_runs_publishes_nothing(house: House, people: People) -> None:
    token = people.add("late", "read", "publish", repositories=["default/prod"])
    filename, body = packages.wheel("late", "1.0", files={"late/x": os.urandom(2 * 1024 * 1024)})
    form = multipart(form_fields(filename, body, name="late"), [("content", filename.encode(), body)])
    head = (
        f"POST /pypi/default/prod/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(form)}\r\n\r\n"
    ).encode()
    with nothing_stored(house.server), socket.create_connection(("127.0.0.1", house.server.port), timeout=20) as sender:
        sender.sendall(head + form[: len(form) // 2])
        deadline = time.monotonic() + 20
        while not list((house.server.data / "blobs" / "tmp").iterdir()):
            assert time.monotonic() < deadline, "the server does not take the body in"
        people.revoke(token)
        sender.sendall(form[len(form) // 2 :])
        assert sender.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_a_token_of_one_repository_does_nothing_in_another(house: House, people: People, tmp_path: Path) -> None:
    token = people.token("admin", "read", "publish", "promote", repositories=["default/dev"])
    headers = {"Authorization": f"Bearer {token}"}
    house.clients.twine(house.upload_url, token, *packages.save(tmp_path, packages.wheel("elsewhere", "1.0"))).ok()
    with nothing_stored(house.server):
        assert publish(house, headers, "/pypi/default/prod/").status_code == 403
        for path in ("/pypi/default/prod/simple/demo/", "/api/v1/domains/default/repositories/prod"):
            assert requests.get(f"{house.server.url}{path}", headers=headers, timeout=10).status_code == 403
        version = f"{house.server.url}/api/v1/domains/default/repositories/dev/packages/pypi/elsewhere/versions/1.0"
        promoted = requests.post(f"{version}/promote", json={"target": "prod"}, headers=headers, timeout=10)
        assert promoted.status_code == 403
        for path in ("users", "domains/default/repositories"):
            answer = requests.post(
                f"{house.server.url}/api/v1/{path}", json={"name": "new"}, headers=headers, timeout=10
            )
            assert answer.status_code == 403


# --- repositories that strangers may read, and those they may not know of --------------------------------------------


@pytest.fixture(scope="module")
def open_repository(house: House, people: People) -> str:
    answer = requests.post(
        f"{house.server.url}/api/v1/domains/default/repositories",
        json={"name": "open", "anonymousRead": True},
        headers={"Authorization": f"Bearer {house.token}"},
        timeout=10,
    )
    assert answer.status_code == 201, answer.text
    assert publish(house, {"Authorization": f"Bearer {house.token}"}, "/pypi/default/open/").status_code == 200
    return "/pypi/default/open"


def test_strangers_read_an_open_repository_and_a_wrong_credential_is_told(
    house: House, people: People, callers: dict[str, dict[str, str]], open_repository: str
) -> None:
    def read(headers: dict[str, str]) -> int:
        return requests.get(
            f"{house.server.url}{open_repository}/simple/demo/", headers=headers, timeout=10
        ).status_code

    assert read({}) == 200
    assert requests.get(f"{house.server.url}{open_repository}/files/demo/{FILENAME}", timeout=10).content == BODY
    for who in ("unknown token", "cut token", "expired", "revoked", "disabled user"):
        assert read(callers[who]) == 401, who
    for header in ("Basic !", "Basic Og==", "Basic YTo=", "Digest x", "Negotiate x", "Bearer", "Bearer  ", "x"):
        assert read({"Authorization": header}) == 401, header
    with nothing_stored(house.server):
        assert publish(house, {}, f"{open_repository}/").status_code == 401
        assert publish(house, callers["reader elsewhere"], f"{open_repository}/").status_code == 403


BODIES = {"promote": {"target": "dev"}, "yank": {"reason": "x"}, "status": {"status": "active"}}
UNKNOWN_ROUTES = (
    ("GET", "/pypi/default/{}/simple/"),
    ("GET", "/pypi/default/{}/simple/demo/"),
    ("HEAD", "/pypi/default/{}/simple/demo/"),
    ("GET", "/pypi/default/{}/files/demo/demo-1.0-py3-none-any.whl"),
    ("GET", "/pypi/default/{}/files/demo/demo-1.0-py3-none-any.whl.metadata"),
    ("GET", "/pypi/default/{}/integrity/demo/1.0/demo-1.0-py3-none-any.whl/provenance"),
    ("GET", "/pypi/default/{}/demo/json"),
    ("POST", "/pypi/default/{}/"),
    ("GET", "/api/v1/domains/default/repositories/{}"),
    ("PATCH", "/api/v1/domains/default/repositories/{}"),
    ("GET", "/api/v1/domains/default/repositories/{}/packages"),
    ("GET", "/api/v1/domains/default/repositories/{}/packages/pypi/demo"),
    ("GET", "/api/v1/domains/default/repositories/{}/packages/pypi/demo/versions/1.0"),
    ("POST", "/api/v1/domains/default/repositories/{}/packages/pypi/demo/versions/1.0/yank"),
    ("DELETE", "/api/v1/domains/default/repositories/{}/packages/pypi/demo/versions/1.0"),
    ("PUT", "/api/v1/domains/default/repositories/{}/packages/pypi/demo/status"),
    ("POST", "/api/v1/domains/default/repositories/{}/packages/pypi/demo/versions/1.0/promote"),
    ("GET", "/api/v1/domains/default/repositories/{}/packages/pypi/demo/versions"),
    ("GET", "/api/v1/domains/default/repositories/{}/packages/pypi/demo/versions/1.0/assets"),
    ("POST", "/api/v1/domains/default/repositories/{}/packages/pypi/demo/versions/update_status"),
    ("POST", "/api/v1/domains/default/repositories/{}/packages/pypi/demo/versions/dispose"),
    ("POST", "/api/v1/domains/default/repositories/{}/packages/pypi/demo/versions/1.0/reopen"),
    ("GET", "/versions/default/{}/pypi/demo?version=1.0&to=Archived"),
    ("GET", "/repositories/default/{}"),
    ("GET", "/packages/default/{}/pypi/demo"),
    ("GET", "/packages/default/{}/pypi/demo/-/1.0"),
)


def shape(house: House, method: str, route: str, repository: str, headers: dict[str, str]) -> tuple[object, ...]:
    """An answer with the repository's name taken out."""
    url = f"{house.server.url}{route.format(repository)}"
    headers = {"Accept": "text/html", **headers}
    body = BODIES.get(url.rpartition("/")[2], {"description": "x"}) if "/api/" in url and method != "GET" else None
    answer = requests.request(method, url, headers=headers, json=body, timeout=10, allow_redirects=False)
    kept = {name: value.replace(repository, "{}") for name, value in answer.headers.items() if name != "Date"}
    # Two names of one length: not even the length of an answer tells.
    return answer.status_code, answer.reason.replace(repository, "{}"), answer.text.replace(repository, "{}"), kept


@pytest.mark.parametrize("who", ["anonymous", "reader elsewhere", "publisher elsewhere", "promoter"])
def test_strangers_cannot_tell_a_private_repository_from_a_missing_one(
    house: House, callers: dict[str, dict[str, str]], who: str
) -> None:
    for method, route in UNKNOWN_ROUTES:
        private, missing = (shape(house, method, route, name, callers[who]) for name in ("staging", "stuging"))
        if who == "promoter" and "promote" in route:
            continue  # who may promote out of staging may know of it
        assert private == missing, (method, route)
        assert private[0] in {303, 401, 403}
    known, unknown = (
        shape(house, "GET", UNKNOWN_ROUTES[1][1], name, callers["reader"]) for name in ("staging", "stuging")
    )
    assert known[0] == 200  # the control: they do differ for who may read
    assert unknown[0] == 403
    assert shape(house, "GET", UNKNOWN_ROUTES[1][1], "stuging", {"Authorization": f"Bearer {house.token}"})[0] == 404


def test_strangers_hear_no_versions_and_see_no_debugger(house: House, tmp_path: Path) -> None:
    for path in (
        "/healthz",
        "/readyz",
        "/sign-in",
        "/nowhere",
        "/console",
        "/?__debugger__=yes&cmd=resource&f=style.css",
        "/metrics",
    ):
        answer = requests.get(f"{house.server.url}{path}", timeout=10)
        # The sign-in page says in a hidden field, escaped, where one wanted to go.
        assert "debugger" not in html.unescape(answer.text).lower().replace(path.lower(), "")
        assert not re.search(
            r"\d+\.\d+", " ".join(f"{answer.headers.get(name)}" for name in ("Server", "X-Powered-By", "Via"))
        )
