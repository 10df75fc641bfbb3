"""The settings: sources in order, every fault at once, each with its path, value and mend."""

from pathlib import Path
from urllib.parse import quote

import pytest

from sluicegate.domain.fairness import Policy, Tier
from sluicegate.errors import InvalidSettings
from sluicegate.settings import Settings, StorageSettings, load_settings


def write(folder: Path, text: str) -> Path:
    path = folder / "sluicegate.toml"
    path.write_text(text)
    return path


def faults(path: Path, **environment: str) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        load_settings(path, environment=environment)
    return [str(fault) for fault in caught.value.faults]


def test_without_a_file_the_built_in_models_are_the_backends() -> None:
    settings = load_settings(environment={})
    assert [backend.kind for backend in settings.backends] == ["local-llm", "local-image"]
    assert settings.server.port == 8000


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "[server]\nport = 1111\nhost = '127.0.0.2'\nmax_streams = 7\n")
    environment = {"SLUICEGATE__SERVER__PORT": "2222", "SLUICEGATE__SERVER__HOST": "127.0.0.3"}
    settings = load_settings(path, environment=environment, overrides={"server.port": 3333, "server.host": None})
    assert (settings.server.port, settings.server.host, settings.server.max_streams) == (3333, "127.0.0.3", 7)


def test_every_fault_is_told_at_once_with_a_suggestion(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        [servr]
        port = 1
        [server]
        port = 99999
        drain_seconds = "long"
        [[backends]]
        name = "a b"
        kind = "opnai"
        [worker]
        heartbeat_seconds = 14
        """,
    )
    told = faults(path)
    assert len(told) == 6
    assert 'servr: unknown field (did you mean "server"?)' in told
    assert "server.port: expected int <= 65535, got 99999" in told
    assert any(fault.startswith("server.drain_seconds: expected float") for fault in told)
    assert any(fault.startswith("backends[0].name: ") and '"a b"' in fault for fault in told)
    assert 'backends[0].kind: not an allowed value, got "opnai" (did you mean "openai"?)' in told
    assert any(fault.startswith("worker.heartbeat_seconds: 14 is too long") for fault in told)


def test_the_environment_is_converted_from_text_but_the_file_is_not(tmp_path: Path) -> None:
    settings = load_settings(
        environment={
            "SLUICEGATE__SERVER__DRAIN_SECONDS": "2.5",
            "SLUICEGATE__SERVER__CORS_ORIGINS": "https://a.example, https://b.example",
        }
    )
    assert settings.server.drain_seconds == 2.5
    assert settings.server.cors_origins == ("https://a.example", "https://b.example")
    assert faults(write(tmp_path, "[server]\nport = '80'\n")) == ['server.port: expected int, got "80"']


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("[[backends]]\nname='x'\nkind='openai'\n", "backends[0].url: expected an http or https address"),
        ("[[backends]]\nname='x'\nkind='openai'\nurl='ftp://h/v1'\n", "backends[0].url: expected an http"),
        (
            "[[backends]]\nname='x'\nkind='vllm'\nurl='http://[h'\n",
            "backends[0].url: expected an http or https address",
        ),
        ("[[backends]]\nname='x'\nkind='ollama'\n", "backends[0].url: expected an http or https address"),
        (
            "[[backends]]\nname='x'\nkind='ollama'\nurl='http://h:11434/api/'\n",
            'backends[0].url: expected the root of an Ollama server, got "http://h:11434/api/" (write "http://h:11434"',
        ),
        (
            "[[backends]]\nname='x'\nkind='ollama'\nurl='http://h/v1'\n",
            'backends[0].url: expected the root of an Ollama server, got "http://h/v1" (write "http://h", or kind = '
            '"openai" for its /v1)',
        ),
        ("[storage]\nurl='mysql://h/d'\n", "storage.url: expected sqlite:///… or postgresql://…"),
        ("[storage]\nurl='postgresql://h:port/d'\n", "storage.url: no port from 1 to 65535"),
        ("[storage]\nurl='postgresql://h/d?sslmode'\n", "storage.url: parameters that are not name=value"),
        ("[storage]\nurl='postgresql://'\n", "storage.url: neither host nor database"),
        ("[storage]\nassets='/var/assets'\n", "storage.assets: expected file:///"),
        ("[[backends]]\nkind='local-image'\n", "backends[0].name: required"),
        ("backends = 3\n", "backends: expected array"),
        ("tiers = 3\n", "tiers: expected object, got 3"),
        ("[tiers]\nfree = 3\n", "tiers.free: expected a table"),
        ("[tiers.free]\nlimits = 3\n", "tiers.free.limits: expected a table"),
        ("[tiers.'Gold Plus']\n", "tiers.Gold Plus: not the name of a tier"),
        ("[tiers.gold]\nwieght = 2\n", 'tiers.gold.wieght: unknown field (did you mean "weight"?)'),
        ("[tiers.gold]\nweight = 0\n", "tiers.gold.weight: expected float >= 0.001, got 0"),
        ("[tiers.gold]\nmax_cost = nan\n", "tiers.gold.max_cost: expected float > 0.0"),
        (
            "[tiers.gold.limits]\nconcurrent_jobs = 0\n",
            'tiers.gold.limits.concurrent_jobs: expected int >= 1, got 0 (a number, or "unlimited")',
        ),
        ("[tiers.gold.limits]\nqueued_jobs = 'many'\n", "tiers.gold.limits.queued_jobs: not an allowed value"),
        ("[server]\nlocal_tier = 'por'\n", 'server.local_tier: no tier "por" (did you mean "pro"?)'),
        ("[scheduling]\nguard_every = 1\n", "scheduling.guard_every: expected int >= 2"),
        (
            "[storage]\nurl='postgresql://h/d?user=anna@example'\n",
            'storage.url: an "@" that ends no user and password in "postgresql://h/d?user=anna@example"',
        ),
        ("[worker]\npools = ['default', 'default']\n", 'worker.pools[1]: "default" stands there already'),
        ("[server\n", "not valid TOML"),
    ],
)
def test_a_fault_is_told_where_it_stands(tmp_path: Path, text: str, start: str) -> None:
    assert any(fault.startswith(start) for fault in faults(write(tmp_path, text)))


def test_two_backends_of_one_name_are_a_fault(tmp_path: Path) -> None:
    text = "".join(f"[[backends]]\nname='x'\nkind='local-image'\nmodels=['{model}']\n" for model in ("sprout", "y"))
    assert faults(write(tmp_path, text)) == [
        'backends[1].name: "x" is taken by an earlier backend (give it another name)'
    ]


def test_a_key_must_be_in_the_environment_and_never_in_the_message(tmp_path: Path) -> None:
    text = "[[backends]]\nname='x'\nkind='openai'\nurl='http://h/v1'\napi_key_env='OPENAI_KEY'\n"
    told = faults(write(tmp_path, text), OPENAI_KYE="sk-secret")
    assert told == ['backends[0].api_key_env: the environment has no "OPENAI_KEY" (did you mean "OPENAI_KYE"?)']
    assert load_settings(tmp_path / "sluicegate.toml", environment={"OPENAI_KEY": "sk"}).backends[0].name == "x"


def test_backends_cannot_be_set_by_variables() -> None:
    with pytest.raises(InvalidSettings, match="cannot be set by variables"):
        load_settings(environment={"SLUICEGATE__BACKENDS__0__NAME": "x"})


def test_a_file_that_is_named_but_absent_is_told(tmp_path: Path) -> None:
    assert faults(tmp_path / "nowhere.toml") == ["no such file (check --config)"]


def test_paths_of_the_store_follow_the_data_folder_unless_set() -> None:
    assert Settings(data_dir="/srv/sg").database_path == Path("/srv/sg/sluicegate.db")
    assert Settings(data_dir="/srv/sg").assets_path == Path("/srv/sg/assets")
    environment = {"SLUICEGATE__STORAGE__URL": "sqlite:////var/a.db", "SLUICEGATE__STORAGE__ASSETS": "file:///var/pics"}
    settings = load_settings(environment=environment)
    assert settings.database_path == Path("/var/a.db")
    assert settings.assets_path == Path("/var/pics")


def test_the_tiers_that_everybody_has_need_not_be_written_down() -> None:
    settings = load_settings(environment={})
    weights = {name: settings.tier(name).weight for name in settings.tiers}
    assert weights == {"free": 1.0, "basic": 4.0, "pro": 16.0, "local": 16.0}
    assert settings.tier("free") == Tier(
        name="free", weight=1.0, queued_jobs=1_000, queued_cost=7_200.0, preemptible=True
    )
    assert settings.local_tier == Tier(name="local", weight=16.0)


def test_a_tier_keeps_what_the_file_does_not_say_and_new_ones_stand_beside_it(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        [server]
        local_tier = "gold"
        [tiers.pro.limits]
        concurrent_jobs = 3
        queued_jobs = "unlimited"
        [tiers.gold]
        max_cost = 90
        """,
    )
    environment = {"SLUICEGATE__TIERS__PRO__WEIGHT": "32", "SLUICEGATE__TIERS__FREE__LIMITS__QUEUED_COST": "60.5"}
    settings = load_settings(path, environment=environment)
    assert settings.tier("pro") == Tier(name="pro", weight=32.0, concurrent_jobs=3, queued_cost=7_200.0)
    assert settings.tier("free").queued_cost == 60.5
    assert settings.tier("basic").weight == 4.0
    assert settings.local_tier == Tier(name="gold", weight=1.0, queued_jobs=1_000, queued_cost=7_200.0, max_cost=90.0)


def test_the_policy_is_that_of_the_rule_unless_set() -> None:
    assert Settings().policy == Policy()
    changed = load_settings(environment={"SLUICEGATE__SCHEDULING__SWAP_SECONDS": "2.5"})
    assert changed.policy == Policy(swap_penalty=5.0)


def test_a_worker_serves_the_pools_of_the_backends_in_their_order_unless_told_otherwise(tmp_path: Path) -> None:
    text = "".join(
        f"[[backends]]\nname='{name}'\nkind='local-image'\nmodels=['{name}']\npool='{pool}'\n"
        for name, pool in (("a", "large"), ("b", "small"), ("c", "large"))
    )
    path = write(tmp_path, text)
    assert load_settings(path, environment={}).worker_pools == ("large", "small")
    told = load_settings(path, environment={"SLUICEGATE__WORKER__POOLS": "small, large"})
    assert told.worker_pools == ("small", "large")
    assert Settings().worker_pools == ("default",)
    assert load_settings(path, environment={"SLUICEGATE__WORKER__POOLS": "former"}).worker_pools == ("former",)


@pytest.mark.parametrize(
    ("models", "words"),
    [
        (("['sprout', 'realesrgan-x2']", "['realesrgan-x4', 'sprout']"), '"sprout" stands'),
        (("[]", "['sprout', 'realesrgan-x2']"), '"sprout" and "realesrgan-x2" stand'),
        (("['sprout']", "[]"), '"sprout" stands'),
        (("[]", "[]"), "every built-in model stands"),
    ],
)
def test_a_picture_model_that_stands_in_two_backends_is_a_fault(
    tmp_path: Path, models: tuple[str, str], words: str
) -> None:
    text = "".join(
        f"[[backends]]\nname='{pool}'\nkind='local-image'\npool='{pool}'\nmodels={listed}\n"
        for pool, listed in zip(("small", "large"), models, strict=True)
    )
    assert faults(write(tmp_path, text)) == [
        f"backends[1].models: {words} in backends[0] and backends[1] (give each its own `models`)"
    ]


def test_a_chat_model_may_stand_in_two_backends_and_picture_models_may_be_shared_out(tmp_path: Path) -> None:
    chat = "[[backends]]\nname='{}'\nkind='openai'\nurl='http://h/v1'\nmodels=['llama']\n"
    pictures = "[[backends]]\nname='{0}'\nkind='local-image'\nmodels=['{0}']\n"
    path = write(tmp_path, chat.format("a") + chat.format("b") + pictures.format("sprout") + pictures.format("other"))
    assert len(load_settings(path, environment={}).backends) == 4


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://anna:geheim@db/jobs",
        "postgres://anna:ge/heim@db/jobs",
        "postgresql://anna:12/geheim@db/jobs",
        "postgresql:///jobs?host=/run/pg&password=geheim",
    ],
)
def test_a_password_in_the_file_is_refused_and_never_shown_but_may_come_from_outside(
    tmp_path: Path, address: str
) -> None:
    (told,) = (fault for fault in faults(write(tmp_path, f"[storage]\nurl='{address}'\n")) if "a password" in fault)
    assert "PGPASSWORD" in told
    assert "heim" not in told
    if "ge/" not in address and "12/" not in address:
        settings = load_settings(environment={"SLUICEGATE__STORAGE__URL": address})
        assert (settings.storage.url, settings.storage.engine) == (address, "postgresql")
        assert "heim" not in settings.database_words


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://anna@[::1]:5432/jobs",
        "postgresql://a:5432,b:5433/jobs?target_session_attrs=primary",
        "postgresql:///jobs?host=/run/postgresql",
    ],
)
def test_addresses_of_postgresql_without_a_password_may_stand_in_the_file(tmp_path: Path, address: str) -> None:
    settings = load_settings(write(tmp_path, f"[storage]\nurl='{address}'\n"), environment={})
    assert settings.storage.engine == "postgresql"
    assert settings.database_words == address


AWKWARD = [
    "postgresql://anna:{}@db/jobs",
    "postgres://anna:{}@db:5432/jobs?sslmode=require",
    "postgresql://anna:12{}@db/jobs",
    "postgresql://anna:12/{}@db/jobs",
    "postgresql://anna:1#{}@db/jobs",
    "postgresql://anna:1?{}@db/jobs",
    "postgresql://anna:1?a={}@db/jobs",
    "postgresql://anna:5432/{}@db/jobs?host=x",
    "postgresql://anna:[{}@db/jobs",
    "postgresql://anna:{}]@[::1]/jobs",
    "postgresql://anna:a@{}@db/jobs",
    "postgresql://anna:a@b/{}@db/jobs",
    "postgresql://anna:a@b:{}@db/jobs",
    "postgresql://anna:a:{}@db/jobs",
    "postgresql://anna:a,{}@db/jobs",
    "postgresql://anna:a%2F{}@db/jobs",
    "postgresql://anna:\u2100{}@db/jobs",
    "postgresql://:{}@db/jobs",
    "postgresql://anna:{}@",
    "postgresql://anna:{}/jobs",
    "postgresql://anna:12{}",
    "postgresql:///jobs?host=/run/pg&password={}",
    "postgresql:///jobs?password={}&host=/run/pg",
    "postgresql:///jobs?password=a#{}",
    "postgresql:///jobs?password=a&{}",
    "postgresql:///jobs?password=a@{}",
    "postgresql:///jobs?password=a:{}@b",
    "postgresql:///jobs?sslpassword=a?{}",
    "postgresql:///jobs?pass%77ord={}",
    "postgresql:///jobs?PASSWORD={}",
    "postgresql://anna@db/jobs#password={}",
    "postgresql:/anna:{}@db/jobs",
    "mysql://anna:{}@db/jobs",
    "anna:{}@db/jobs",
    "host=db password={}",
    "host=db password = a {}",
]


@pytest.mark.parametrize(
    "secret", ["geheim", "ge@heim", "ge/heim", "ge#heim", "ge?heim", "ge:heim", "9/heim", "ge%heim"]
)
@pytest.mark.parametrize("form", AWKWARD)
def test_no_piece_of_a_password_is_ever_shown(tmp_path: Path, form: str, secret: str) -> None:
    if form in ("postgresql://anna:{}/jobs", "postgresql://anna:12{}"):
        secret = (
            "geheim"  # without a host behind it, where a slash or an @ stands the password is over for every reader
        )
    address = form.format(secret)
    shown: list[str] = []
    for file, environment in (
        (write(tmp_path, f"[storage]\nurl='{address}'\n"), {}),
        (None, {"SLUICEGATE__STORAGE__URL": address}),
    ):
        try:
            shown.append(repr(load_settings(file, environment=environment)))
        except InvalidSettings as error:
            shown += [error.message, repr(error.faults)]
    settings = Settings(storage=StorageSettings(url=address))
    shown += [repr(settings), repr(settings.storage)]
    if settings.storage.engine == "postgresql":
        shown.append(settings.database_words)
    assert [text for text in shown if "heim" in text] == []
    assert "".join(shown)


@pytest.mark.parametrize("secret", ["12/geheim", "1#geheim", "a?b", "a@b", "@"])
def test_an_unescaped_password_is_refused_wherever_it_comes_from_and_an_escaped_one_taken(secret: str) -> None:
    def load(written: str) -> Settings:
        return load_settings(environment={"SLUICEGATE__STORAGE__URL": f"postgresql://anna:{written}@db/jobs"})

    with pytest.raises(InvalidSettings, match="percent-encode") as raised:
        load(secret)
    assert '"postgresql://anna:…@db/jobs"' in raised.value.message
    assert load(quote(secret, safe="")).database_words == "postgresql://anna:…@db/jobs"
