"""twine as it is, but for what it is told to lie about; one line of JSON in, one out, so that one process does for many.

In: ``arguments`` of the command line, ``fields`` that overwrite fields of the form, ``filename`` for the file part, and
``body``, a path whose bytes go out instead of the file's, with their digests. Out: ``[status, output]``. Requests,
answers and what is printed are twine's own.
"""

import contextlib
import io
import json
import sys

from twine.__main__ import main
from twine.package import HashManager, PackageFile

honest_from_filename = PackageFile.from_filename.__func__
honest_dictionary = PackageFile.metadata_dictionary
lies = {}


def from_filename(cls, filename, comment):
    package = honest_from_filename(cls, filename, comment)
    if "body" in lies:
        hasher = HashManager(lies["body"])
        hasher.hash()
        package.filename = lies["body"]
        package.sha2_digest, package.blake2_256_digest = hasher.hexdigest().sha2, hasher.hexdigest().blake2
    package.basefilename = lies.get("filename", package.basefilename)
    return package


PackageFile.from_filename = classmethod(from_filename)
PackageFile.metadata_dictionary = lambda package: {**honest_dictionary(package), **lies.get("fields", {})}

answers = sys.stdout
for line in sys.stdin:
    lies = json.loads(line)
    sys.argv = ["twine", *lies["arguments"]]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        failed = bool(main())
    print(json.dumps([failed, printed.getvalue()]), file=answers, flush=True)
