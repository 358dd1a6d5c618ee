"""What someone sends is validated as a whole before the store is touched, and may be signed."""

import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from safetensors.numpy import load_file, save_file

from builders.registries import MODEL, signed_again, write_registry
from peculiar.cli.main import main
from peculiar.core.errors import InputError
from peculiar.core.files import files_sha256
from peculiar.registry import exchange, models
from peculiar.registry.champion import load_champion
from peculiar.runs.weights import WEIGHTS

pytestmark = pytest.mark.xdist_group("mlflow")
VERSION, MLMODEL = "versions/1", "versions/1/model/MLmodel"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Files of an Ed25519 key, of another one, and of an RSA key; each with its public key."""
    folder = tmp_path_factory.mktemp("keys")
    made = {
        "mine": ed25519.Ed25519PrivateKey.generate(),
        "other": ed25519.Ed25519PrivateKey.generate(),
        "rsa": rsa.generate_private_key(65537, 2048),
    }
    for name, key in made.items():
        private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        pem = serialization.Encoding.PEM
        (folder / f"{name}.pem").write_bytes(key.private_bytes(pem, *private))
        public = key.public_key()
        info = serialization.PublicFormat.SubjectPublicKeyInfo
        (folder / f"{name}.pub").write_bytes(public.public_bytes(pem, info))
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = tmp_path_factory.mktemp("sender") / "mlruns"
    write_registry(store)
    return store


@pytest.fixture(scope="module")
def signed(store, keys):
    folder = store.parent / "signed"
    exchange.export(MODEL, folder, store, keys / "mine.pem")
    return folder


@pytest.fixture
def copy(signed, tmp_path):
    return Path(shutil.copytree(signed, tmp_path / "copy"))


def test_a_signed_export_is_imported_by_its_key(signed, keys, tmp_path):
    store = tmp_path / "mlruns"
    assert exchange.adopt(signed, store, keys / "mine.pub").startswith("imported 1 of 1 versions")
    assert load_champion(MODEL, store).version == "1"


def test_the_commands_sign_and_verify(store, keys, tmp_path, capsys):
    out, key, public = (
        str(path) for path in (tmp_path / "out", keys / "mine.pem", keys / "mine.pub")
    )
    main(["registry", "export", out, "--store", str(store), "--sign", key])
    main(["registry", "import", out, "--store", str(tmp_path / "mlruns"), "--verify", public])
    assert "imported 1 of 1 versions" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="is not this key's signature"):
        main(["registry", "import", out, "--verify", str(keys / "other.pub")])


@pytest.mark.parametrize(
    "name", ["SHA256SUMS", "SHA256SUMS.sig", "registry.json", MLMODEL, f"{VERSION}/run/run.json"]
)
def test_a_changed_byte_of_a_signed_export_is_refused(copy, keys, tmp_path, name):
    path = copy / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"is not this key's signature|is not what was exp"):
        exchange.adopt(copy, tmp_path / "mlruns", keys / "mine.pub")
    if not name.startswith(exchange.SUMS):
        signed_again(copy, digest=False)
        with pytest.raises(InputError, match=r"is not this key's signature of SHA256SUMS: one was"):
            exchange.adopt(copy, tmp_path / "mlruns", keys / "mine.pub")
    assert not (tmp_path / "mlruns").exists()


def test_no_signature_and_another_key_are_refused(copy, keys, tmp_path):
    with pytest.raises(InputError, match=r"another key signed: import nothing of it, and ask who"):
        exchange.adopt(copy, tmp_path / "mlruns", keys / "other.pub")
    (copy / "SHA256SUMS.sig").unlink()
    with pytest.raises(InputError, match=r"copy is not signed \(SHA256SUMS\.sig is missing\): im"):
        exchange.adopt(copy, tmp_path / "mlruns", keys / "mine.pub")
    assert not (tmp_path / "mlruns").exists()
    exchange.adopt(copy, tmp_path / "mlruns")  # no key was asked for


@pytest.mark.parametrize("name", ["rsa", "missing", "folder", "empty", "swapped"])
def test_another_kind_of_key_is_refused(store, signed, keys, tmp_path, name):
    (tmp_path / "empty.pem").touch()
    (tmp_path / "empty.pub").touch()
    private, public = {
        "missing": (tmp_path / "missing.pem", tmp_path / "missing.pub"),
        "folder": (tmp_path, tmp_path),
        "empty": (tmp_path / "empty.pem", tmp_path / "empty.pub"),
        "swapped": (keys / "mine.pub", keys / "mine.pem"),
    }.get(name, (keys / "rsa.pem", keys / "rsa.pub"))
    with pytest.raises(InputError, match=r"--sign .* (is no Ed25519 private key|cannot be read)"):
        exchange.export(MODEL, tmp_path / "out", store, private)
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match=r"--verify .* (is no Ed25519 public key|cannot be read)"):
        exchange.adopt(signed, tmp_path / "mlruns", public)


def index_of(folder):
    return json.loads((folder / exchange.INDEX).read_text())


def indexed(**changes):
    """A change of registry.json."""

    def change(folder):
        (folder / exchange.INDEX).write_text(json.dumps(index_of(folder) | changes))

    return change


def version_of(**changes):
    def change(folder):
        index = index_of(folder)
        index["versions"]["1"] |= changes
        (folder / exchange.INDEX).write_text(json.dumps(index))

    return change


def tagged(key, value):
    def change(folder):
        index = index_of(folder)
        index["versions"]["1"]["tags"][key] = value
        (folder / exchange.INDEX).write_text(json.dumps(index))

    return change


def written(name, text):
    def change(folder):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    return change


def replaced(name, old, new):
    def change(folder):
        path = folder / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return change


def linked(name, target):
    return lambda folder: (folder / name).symlink_to(target)


def with_infinite_weights(folder):
    path = folder / VERSION / "model" / WEIGHTS
    tensors = load_file(path)
    tensors["bodies.0.1.weight"][:] = float("inf")
    save_file(tensors, path)


DECEPTIONS = [
    (written(f"{VERSION}/model/code/evil.py", "1"), "version 1 of .* has code, which is no part"),
    (written(f"{VERSION}/model/data/model.pt2", "1"), "version 1 of .* is an exported program"),
    (written(f"{VERSION}/model/model.pkl", "1"), r"version 1 of .* is pickled \(model\.pkl\)"),
    (written(f"{VERSION}/run/evil.pkl", "1"), r"version 1 of .* is pickled \(evil\.pkl\)"),
    (written(f"{VERSION}/run/evil.py", "1"), r"run/evil\.py is no file of a run: export again"),
    (written(f"{VERSION}/run/cards/a.html", "1"), r"cards/a\.html is no file of a run"),
    (written("versions/2/evil", "1"), r"versions/2 is not a version in registry\.json: export"),
    (replaced(MLMODEL, "peculiar:", "python_function:"), "version 1 .* line 2 of MLmodel"),
    (replaced(MLMODEL, "flavors:", "code: code\nflavors:"), "version 1 .* line 1 of MLmodel"),
    (with_infinite_weights, r"version 1 of .*weights\.safetensors .*1\.weight is not finite"),
    (linked("evil", "/etc/passwd"), "evil is a link, not a file: export again"),
    (linked(f"{VERSION}/model/code", "/etc"), "code is a link, not a file: export again"),
    (indexed(model="../x"), r"registry\.json\.model: String should match pattern"),
    (indexed(model=3), r"registry\.json\.model: Input should be a valid string"),
    (indexed(aliases={"champion": "2"}), "champion is version 2, which is not there: export"),
    (indexed(aliases={"champion": "../1"}), r"registry\.json\.aliases\.champion: String should"),
    (indexed(aliases={"latest": "1"}), "latest means a version, and cannot be an alias"),
    (indexed(history=["x"]), r"registry\.json\.history\.0: Input should be a valid"),
    (indexed(comparisons=[{}]), r"registry\.json\.comparisons\.0\..*: key is missing"),
    (indexed(versions={}), r"registry\.json\.versions: .* should have at least 1 item"),
    (indexed(versions={"../1": {}}), r"registry\.json\.versions\.\.\./1.*: String should match"),
    (indexed(code="evil"), r"registry\.json\.code: unknown key"),
    (version_of(tags=3), r"versions\.1\.tags: Input should be a valid"),
    (version_of(description="\x1b]0;evil\x07"), "description: a control character is no part"),
    (version_of(run_id="../x"), r"versions\.1\.run_id: String should match pattern"),
    (tagged("who", "\x1b[2J"), r"tags\.who: a control character is no part of a text"),
    (tagged("sigma_D_mpc", "nan"), "version 1 of .*: tag.sigma_D_mpc: Input should be a finite"),
    (tagged("sigma_D_mpc", "4"), "version 1 of .*: tag sigma_D_mpc is 4.0, and its network was"),
    (tagged("survey", "{"), "version 1 of .*: tag survey is not valid JSON"),
    (tagged("comparison", "many"), "version 1 of .*: tag comparison is 'many', not a number"),
    (written(f"{VERSION}/run/run.json", "{}"), r"run\.json\.survey: key is missing: add it"),
    (written(f"{VERSION}/run/run.json", "{"), r"run\.json is damaged .*: export again"),
    (replaced(f"{VERSION}/run/run.json", '"cnn2"', '"x; rm y"'), "network: String should match"),
    (replaced(f"{VERSION}/run/run.json", '"seed": 1', '"seed": 2'), "is not of the network besi"),
    (written(f"{VERSION}/run/validation.ecsv", ""), r"validation\.ecsv is damaged .*: export aga"),
    (written(exchange.INDEX, "{"), r"registry\.json: not valid JSON: export again"),
    (written(exchange.INDEX, "[" * 100_000), r"registry\.json: not valid JSON: export again"),
]


@pytest.mark.parametrize(("change", "reason"), DECEPTIONS)
def test_an_export_with_right_digests_is_refused_for_its_content(copy, tmp_path, change, reason):
    change(copy)
    signed_again(copy, digest=model_changed(copy))
    with pytest.raises(InputError, match=reason) as refusal:
        exchange.adopt(copy, tmp_path / "mlruns")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "mlruns").exists()


def model_changed(folder):
    """Whether the files of the model changed, while the index can be read."""
    try:
        tags = index_of(folder)["versions"]["1"]["tags"]
        return tags[models.DIGEST] != files_sha256(folder / VERSION / "model")
    except (ValueError, RecursionError, LookupError, TypeError):
        return False
