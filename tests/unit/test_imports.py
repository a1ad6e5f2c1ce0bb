"""No files import each other in a circle: not inside functions either, and not for types alone."""

import grimp
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def test_no_files_import_in_a_circle() -> None:
    graph = grimp.build_graph("instar", exclude_type_checking_imports=False, cache_dir=None)
    modules = sorted(graph.modules)
    place = {module: number for number, module in enumerate(modules)}
    imports = [
        (place[importer], place[imported])
        for importer in modules
        for imported in graph.find_modules_directly_imported_by(importer)
    ]
    rows, columns = np.array(imports).T
    matrix = coo_array((np.ones(len(imports)), (rows, columns)), shape=(len(modules), len(modules)))
    _, groups = connected_components(matrix, connection="strong")
    circles = [
        [modules[number] for number in np.flatnonzero(groups == group)]
        for group in np.flatnonzero(np.bincount(groups) > 1)
    ]
    assert circles == []
