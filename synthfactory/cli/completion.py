"""The verb `completion`: scripts for bash, zsh and fish that complete verbs, options and settings.

A script is made once, from the grammar of the command line and the shipped YAML files, and holds
all words, generators of installed packages and their fields among them.  So pressing Tab starts no
Python; groups and options of one's own (``--config-dir``) are not in it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from synthfactory import plugins
from synthfactory.cli.fields import offered_fields
from synthfactory.paths import conf_dir

# Left out of the words: where a class is, and Hydra's own part.
HIDDEN = ("_target_", "defaults", "hydra", "trusted_targets")


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option: its spellings, what it is for, and the words that may follow it."""

    spellings: tuple[str, ...]
    summary: str
    takes_value: bool
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A verb, or a verb with its action, such as ``keys new``."""

    words: tuple[str, ...]
    summary: str
    options: tuple[Option, ...]
    takes_settings: bool
    choices: tuple[str, ...] = ()


def completion(arguments: argparse.Namespace) -> int:
    """The verb: print a shell's script."""
    from synthfactory.cli import parser

    print(script(arguments.shell, parser()), end="")
    return 0


def script(shell: str, parser: argparse.ArgumentParser, conf: Path | None = None) -> str:
    """The completion script of a shell.

    Parameters
    ----------
    shell
        ``bash``, ``zsh`` or ``fish``.
    parser
        The grammar of the command line.
    conf
        The folder of the configuration; None for the shipped one.
    """
    writers: dict[str, Callable[[Sequence[Verb], Mapping[str, tuple[str, ...]]], str]] = {
        "bash": _bash,
        "zsh": _zsh,
        "fish": _fish,
    }
    known = settings(conf or conf_dir())
    return writers[shell](tuple(verbs(parser)), _with_offers(known))


def _with_offers(known: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """With the generators of installed packages, and their fields."""
    # Any other name could be more than a word to a shell.
    offers = [
        offer
        for offer in plugins.offers(plugins.GENERATORS)
        if offer.name.isidentifier() and offer.name.isascii()
    ]
    names = {*known["generator"], *(offer.name for offer in offers)}
    fields = {f"generator.{name}" for offer in offers for name in offered_fields(offer)}
    return {
        **known,
        "generator": tuple(sorted(names)),
        **{name: () for name in sorted(fields) if name not in known},
    }


def verbs(parser: argparse.ArgumentParser) -> Iterator[Verb]:
    """The verbs of a grammar, each followed by its actions where it has some."""
    for name, summary, its in _children(parser):
        yield _verb((name,), summary, its)
        for action, told, grammar in _children(its):
            yield _verb((name, action), told, grammar)


def settings(conf: Path) -> dict[str, tuple[str, ...]]:
    """Every setting, and the values that are known for it: options of a group, or none.

    The fields of a group are those of all its options, and of the cluster's and sites' parts one
    level down: ``site.billing.unit``.
    """
    config = _read(conf / "config.yaml")
    groups = sorted(path.name for path in conf.iterdir() if any(path.glob("*.yaml")))
    found: dict[str, tuple[str, ...]] = {
        group: tuple(sorted(path.stem for path in (conf / group).glob("*.yaml")))
        for group in groups
    }
    fields: dict[str, tuple[str, ...]] = {}
    for group in groups:
        # A policy's rules and an experiment's orders are for files, not for a command line.
        if group not in ("policy", "experiment"):
            for path in sorted((conf / group).glob("*.yaml")):
                fields |= dict.fromkeys(_keys(_read(path), f"{group}."), ())
    fields |= dict.fromkeys(_keys(config, ""), ())
    fields["device"] = ("auto", "cpu", "cuda")
    return found | dict(sorted(fields.items()))


def _keys(values: Mapping[str, Any], prefix: str, depth: int = 2) -> Iterator[str]:
    for name, value in values.items():
        if name in HIDDEN or not isinstance(name, str):
            continue
        if isinstance(value, Mapping) and value and depth:
            yield from _keys(value, f"{prefix}{name}.", depth - 1)
        else:
            yield f"{prefix}{name}"


def _read(path: Path) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    values: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), loader) or {}
    return values


def _children(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {each.dest: each.help or "" for each in action._choices_actions}
            for name, grammar in action.choices.items():
                yield name, summaries.get(name, ""), grammar


def _verb(words: tuple[str, ...], summary: str, grammar: argparse.ArgumentParser) -> Verb:
    options, positional, choices = [], [], []
    for action in grammar._actions:
        if action.option_strings:
            options.append(
                Option(
                    spellings=tuple(action.option_strings),
                    summary=(action.help or "").replace("%%", "%"),
                    takes_value=action.nargs != 0,
                    choices=tuple(map(str, action.choices or ())),
                )
            )
        elif isinstance(action, argparse._SubParsersAction):
            choices += list(action.choices)
        else:
            positional.append(action.dest)
            choices += list(map(str, action.choices or ()))
    return Verb(
        words=words,
        summary=summary,
        options=tuple(options),
        takes_settings="settings" in positional,
        choices=tuple(choices),
    )


def _first_words(known: Mapping[str, tuple[str, ...]]) -> list[str]:
    return [f"{name}=" for name in known]


def _values(known: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {name: values for name, values in known.items() if values}


HEAD = """# Completion of synthfactory for {shell}, made by `synthfactory completion {shell}`.
# It holds all words and starts no program.  Make it again after an update.
"""

BASH = """
_synthfactory() {{
    local cur line verb action word options choices settings=0 previous='' values=''
    COMPREPLY=()
    # bash breaks words at '=' and ',': look at the line itself.
    line="${{COMP_LINE:0:COMP_POINT}}"
    local -a words
    read -r -a words <<<"$line"
    if [[ "$line" == *[[:space:]] ]]; then words+=(''); fi
    cur="${{words[${{#words[@]}}-1]}}"
    if ((${{#words[@]}} > 2)); then previous="${{words[${{#words[@]}}-2]}}"; fi
    verb='' action=''
    for word in "${{words[@]:1:${{#words[@]}}-2}}"; do
        [[ "$word" == -* ]] && continue
        if [[ -z "$verb" ]]; then verb="$word"; elif [[ -z "$action" ]]; then action="$word"; fi
    done
    if [[ -z "$verb" ]]; then
        mapfile -t COMPREPLY < <(compgen -W '{verbs}' -- "$cur")
        return
    fi
    case "$verb $action" in
{actions}
    *)
        case "$verb" in
{cases}
        *) return ;;
        esac
        ;;
    esac
    case "$verb $previous" in
{followers}
    esac
    if [[ "$cur" == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
    elif ((settings)) && [[ "$cur" == *=* ]]; then
        case "${{cur%%=*}}" in
{values}
        *) compopt -o default 2>/dev/null; return ;;
        esac
        local done='' rest="${{cur#*=}}"
        if [[ "$rest" == *,* ]]; then done="${{rest%,*}},"; rest="${{rest##*,}}"; fi
        mapfile -t COMPREPLY < <(compgen -P "${{cur%%=*}}=$done" -W "$values" -- "$rest")
        # What bash already took as words of their own must not come again.
        if [[ "$COMP_WORDBREAKS" == *=* ]]; then
            COMPREPLY=("${{COMPREPLY[@]#"${{cur%%=*}}="}}")
        fi
    elif ((settings)); then
        mapfile -t COMPREPLY < <(compgen -W '{settings}' -- "$cur")
        compopt -o nospace 2>/dev/null
        if ((${{#COMPREPLY[@]}} == 0)); then compopt +o nospace -o default 2>/dev/null; fi
    elif [[ -n "$choices" && -z "$action" ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$cur")
    else
        compopt -o default 2>/dev/null
    fi
}}
complete -F _synthfactory synthfactory
"""


def _bash(all_verbs: Sequence[Verb], known: Mapping[str, tuple[str, ...]]) -> str:
    def case(verb: Verb, indent: str) -> str:
        spelled = " ".join(word for option in verb.options for word in option.spellings)
        sets = [f"options='{spelled}'", f"choices='{' '.join(verb.choices)}'"]
        sets += ["settings=1"] if verb.takes_settings else []
        return f"{indent}'{' '.join(verb.words)}') {'; '.join(sets)} ;;"

    followers = []
    for verb in all_verbs:
        for option in verb.options:
            if option.takes_value:
                pattern = " | ".join(f"'{verb.words[0]} {word}'" for word in option.spellings)
                reply = (
                    f"mapfile -t COMPREPLY < <(compgen -W '{' '.join(option.choices)}' -- \"$cur\")"
                    if option.choices
                    else "compopt -o default 2>/dev/null"
                )
                followers.append(f"    {pattern}) {reply}; return ;;")
    return HEAD.format(shell="bash") + BASH.format(
        verbs=" ".join(verb.words[0] for verb in all_verbs if len(verb.words) == 1),
        actions="\n".join(case(verb, "    ") for verb in all_verbs if len(verb.words) == 2),
        cases="\n".join(case(verb, "        ") for verb in all_verbs if len(verb.words) == 1),
        followers="\n".join(followers),
        values="\n".join(
            f"        '{name}') values='{' '.join(values)}' ;;"
            for name, values in _values(known).items()
        ),
        settings=" ".join(_first_words(known)),
    )


ZSH = """#compdef synthfactory
{head}
_synthfactory() {{
    local verb='' action='' word previous=${{words[CURRENT-1]}}
    local -a found options choices values
    local -i settings=0
    for word in ${{words[2,CURRENT-1]}}; do
        [[ $word == -* ]] && continue
        if [[ -z $verb ]]; then verb=$word; elif [[ -z $action ]]; then action=$word; fi
    done
    if [[ -z $verb ]]; then
        found=({verbs})
        _describe verb found
        return
    fi
    case "$verb $action" in
{actions}
    *)
        case $verb in
{cases}
        *) return 1 ;;
        esac
        ;;
    esac
    case "$verb $previous" in
{followers}
    esac
    if [[ $PREFIX == -* ]]; then
        _describe option options
    elif (( settings )) && [[ $PREFIX == *=* ]]; then
        case ${{PREFIX%%=*}} in
{values}
        *) compset -P '*='; _files; return ;;
        esac
        compset -P '*='
        compset -P '*,'
        compadd -a values
    elif (( settings )); then
        compadd -S '' -- {settings} || _files
    elif (( $#choices )) && [[ -z $action ]]; then
        compadd -a choices
    else
        _files
    fi
}}
if [[ $funcstack[1] == _synthfactory ]]; then _synthfactory "$@"; else
    compdef _synthfactory synthfactory
fi
"""


def _zsh(all_verbs: Sequence[Verb], known: Mapping[str, tuple[str, ...]]) -> str:
    def described(word: str, summary: str) -> str:
        return _quoted(f"{word}:{summary}".replace("\n", " "))

    def case(verb: Verb, indent: str) -> str:
        spelled = " ".join(
            described(word, option.summary) for option in verb.options for word in option.spellings
        )
        sets = [f"options=({spelled})", f"choices=({' '.join(verb.choices)})"]
        sets += ["settings=1"] if verb.takes_settings else []
        return f"{indent}'{' '.join(verb.words)}') {'; '.join(sets)} ;;"

    followers = [
        f"    {' | '.join(_quoted(f'{verb.words[0]} {word}') for word in option.spellings)}) "
        f"{'compadd -- ' + ' '.join(option.choices) if option.choices else '_files'}; return ;;"
        for verb in all_verbs
        for option in verb.options
        if option.takes_value
    ]
    return ZSH.format(
        head=HEAD.format(shell="zsh").rstrip(),
        verbs=" ".join(
            described(verb.words[0], verb.summary) for verb in all_verbs if len(verb.words) == 1
        ),
        actions="\n".join(case(verb, "    ") for verb in all_verbs if len(verb.words) == 2),
        cases="\n".join(case(verb, "        ") for verb in all_verbs if len(verb.words) == 1),
        followers="\n".join(followers),
        values="\n".join(
            f"        '{name}') values=({' '.join(values)}) ;;"
            for name, values in _values(known).items()
        ),
        settings=" ".join(_first_words(known)),
    )


FISH = """
function __synthfactory_settings
    set -l current (commandline -ct)
    switch $current
{values}
        case '*=*'
            return
        case '*'
            printf '%s\\n' {settings}
    end
end

function __synthfactory_values
    set -l parts (string split -m 1 '=' -- (commandline -ct))
    set -l begun (string match -r '^.*,' -- $parts[2])
    printf "$parts[1]=$begun%s\\n" $argv
end

"""


def _fish(all_verbs: Sequence[Verb], known: Mapping[str, tuple[str, ...]]) -> str:
    cases = "\n".join(
        f"        case '{name}=*'\n            __synthfactory_values {' '.join(values)}"
        for name, values in _values(known).items()
    )
    lines = [
        HEAD.format(shell="fish"),
        FISH.format(values=cases, settings=" ".join(_first_words(known))),
    ]
    for verb in all_verbs:
        name = verb.words[0]
        seen = " and ".join(f"__fish_seen_subcommand_from {word}" for word in verb.words)
        seen = seen.replace(" and ", "; and ")
        if len(verb.words) == 1:
            lines.append(
                f"complete -c synthfactory -n __fish_use_subcommand -f -a {name} "
                f"-d {_fish_quoted(verb.summary)}\n"
            )
            actions = [other.words[1] for other in all_verbs if other.words[:-1] == verb.words]
            for choice in verb.choices:
                unseen = f"; and not __fish_seen_subcommand_from {' '.join(actions)}"
                unseen = unseen if choice in actions else ""
                lines.append(f"complete -c synthfactory -n '{seen}{unseen}' -f -a {choice}\n")
            if verb.takes_settings:
                lines.append(
                    f"complete -c synthfactory -n '{seen}' -a '(__synthfactory_settings)'\n"
                )
        for option in verb.options:
            words = [
                f"-l {word[2:]}" if word.startswith("--") else f"-s {word[1:]}"
                for word in option.spellings
            ]
            takes = " -r" if option.takes_value else ""
            takes += f" -f -a '{' '.join(option.choices)}'" if option.choices else ""
            lines.append(
                f"complete -c synthfactory -n '{seen}' {' '.join(words)}{takes} "
                f"-d {_fish_quoted(option.summary)}\n"
            )
    return "".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
