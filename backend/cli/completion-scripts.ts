/**
 * Completion scripts of shells. A script calls `ucloud __complete -- WORD…`, and the last word is the one to complete.
 * The command prints one candidate per line, with a tab and a description. The line `:files` means file names, and
 * `:nospace` means no space after the candidate.
 */

const bash = `# Completion of ucloud for bash.
_ucloud() {
  local line
  local -a words=("\${COMP_WORDS[@]:1:COMP_CWORD}")
  COMPREPLY=()
  while IFS=$'\\t' read -r line _; do
    case $line in
      :files)
        compopt -o filenames
        while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "\${COMP_WORDS[COMP_CWORD]}")
        ;;
      :nospace) compopt -o nospace ;;
      *) COMPREPLY+=("$line") ;;
    esac
  done < <("$1" __complete -- "\${words[@]}" 2>/dev/null)
}
complete -F _ucloud ucloud
`;

const zsh = `#compdef ucloud
# Completion of ucloud for zsh.
_ucloud() {
  local line
  local -a candidates options
  for line in "\${(@f)$("\${words[1]}" __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    case $line in
      '') ;;
      :files) _files; return ;;
      :nospace) options=(-S '') ;;
      *) candidates+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}") ;;
    esac
  done
  _describe ucloud candidates $options
}
if [[ $funcstack[1] == _ucloud ]]; then _ucloud "$@"; else compdef _ucloud ucloud; fi
`;

const fish = `# Completion of ucloud for fish.
function __ucloud_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for line in ($words[1] __complete -- $words[2..-1] "$current" 2>/dev/null)
        switch $line
            case ':files'
                __fish_complete_path "$current"
            case ':nospace'
            case '*'
                echo $line
        end
    end
end
complete -c ucloud -f -a '(__ucloud_complete)'
`;

/** The completion script of each shell. */
export const scripts = { bash, zsh, fish } as const;
