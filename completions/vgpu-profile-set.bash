_vgpu__profile__set() {
    local i cur prev opts cmd
    COMPREPLY=()
    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
        cur="$2"
    else
        cur="${COMP_WORDS[COMP_CWORD]}"
    fi
    prev="$3"
    cmd=""
    opts=""

    for i in "${COMP_WORDS[@]:0:COMP_CWORD}"
    do
        case "${cmd},${i}" in
            ",$1")
                cmd="vgpu__profile__set"
                ;;
            vgpu__profile__set,apply)
                cmd="vgpu__profile__set__subcmd__apply"
                ;;
            vgpu__profile__set,check)
                cmd="vgpu__profile__set__subcmd__check"
                ;;
            vgpu__profile__set,clear)
                cmd="vgpu__profile__set__subcmd__clear"
                ;;
            vgpu__profile__set,cloud-init)
                cmd="vgpu__profile__set__subcmd__cloud__subcmd__init"
                ;;
            vgpu__profile__set,help)
                cmd="vgpu__profile__set__subcmd__help"
                ;;
            vgpu__profile__set,hook)
                cmd="vgpu__profile__set__subcmd__hook"
                ;;
            vgpu__profile__set,list)
                cmd="vgpu__profile__set__subcmd__list"
                ;;
            vgpu__profile__set,plan)
                cmd="vgpu__profile__set__subcmd__plan"
                ;;
            vgpu__profile__set,watch)
                cmd="vgpu__profile__set__subcmd__watch"
                ;;
            vgpu__profile__set__subcmd__help,apply)
                cmd="vgpu__profile__set__subcmd__help__subcmd__apply"
                ;;
            vgpu__profile__set__subcmd__help,check)
                cmd="vgpu__profile__set__subcmd__help__subcmd__check"
                ;;
            vgpu__profile__set__subcmd__help,clear)
                cmd="vgpu__profile__set__subcmd__help__subcmd__clear"
                ;;
            vgpu__profile__set__subcmd__help,cloud-init)
                cmd="vgpu__profile__set__subcmd__help__subcmd__cloud__subcmd__init"
                ;;
            vgpu__profile__set__subcmd__help,help)
                cmd="vgpu__profile__set__subcmd__help__subcmd__help"
                ;;
            vgpu__profile__set__subcmd__help,hook)
                cmd="vgpu__profile__set__subcmd__help__subcmd__hook"
                ;;
            vgpu__profile__set__subcmd__help,list)
                cmd="vgpu__profile__set__subcmd__help__subcmd__list"
                ;;
            vgpu__profile__set__subcmd__help,plan)
                cmd="vgpu__profile__set__subcmd__help__subcmd__plan"
                ;;
            vgpu__profile__set__subcmd__help,watch)
                cmd="vgpu__profile__set__subcmd__help__subcmd__watch"
                ;;
            *)
                ;;
        esac
    done

    case "${cmd}" in
        vgpu__profile__set)
            opts="-o -v -q -h -V --output --root --verbose --quiet --help --version list plan apply check clear watch hook cloud-init help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 1 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --output)
                    COMPREPLY=($(compgen -W "auto jsonl table" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                -o)
                    COMPREPLY=($(compgen -W "auto jsonl table" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --root)
                    COMPREPLY=()
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o plusdirs
                    fi
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        vgpu__subcmd__profile__subcmd__set__subcmd__apply)
            opts="-n -o -v -q -h --config --node-name --heterogeneous --skip-in-use --dry-run --check --output --root --verbose --quiet --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --config)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --node-name)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --output)
                    COMPREPLY=($(compgen -W "auto jsonl table" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                -o)
                    COMPREPLY=($(compgen -W "auto jsonl table" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --root)
                    COMPREPLY=()
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o plusdirs
                    fi
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        vgpu__subcmd__profile__subcmd__set__subcmd__check)
            opts="-o -v -q -h --config --node-name --heterogeneous --health-file --alive --output --root --verbose --quiet --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --config)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --node-name)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --health-file)
                    local oldifs
                    if [ -n "${IFS+x}" ]; then
                        oldifs="$IFS"
                    fi
                    IFS=$'\n'
                    COMPREPLY=($(compgen -f "${cur}"))
                    if [ -n "${oldifs+x}" ]; then
                        IFS="$oldifs"
                    fi
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o filenames
                    fi
                    return 0
                    ;;
                --output)
                    COMPREPLY=($(compgen -W "auto jsonl table" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                -o)
                    COMPREPLY=($(compgen -W "auto jsonl table" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --root)
                    COMPREPLY=()
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o plusdirs
                    fi
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        vgpu__subcmd__profile__subcmd__set__subcmd__clear)
            opts="-n -o -v -q -h --all --skip-in-use --dry-run --check --output --root --verbose --quiet --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --output)
                    COMPREPLY=($(compgen -W "auto jsonl table" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                -o)
                    COMPREPLY=($(compgen -W "auto jsonl table" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --root)
                    COMPREPLY=()
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o plusdirs
                    fi
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        vgpu__subcmd__profile__subcmd__set__subcmd__cloud__subcmd__init)
            opts="-o -v -q -h --feature-type --output --root --verbose --quiet --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --feature-type)
                    COMPREPLY=($(compgen -W "0 1 2 4" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --output)
                    COMPREPLY=($(compgen -W "auto jsonl table" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                -o)
                    COMPREPLY=($(compgen -W "auto jsonl table" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --root)
                    COMPREPLY=()
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o plusdirs
                    fi
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        vgpu__subcmd__profile__subcmd__set__subcmd__help)
            opts="list plan apply check clear watch hook cloud-init help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        vgpu__subcmd__profile__subcmd__set__subcmd__help__subcmd__apply)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        vgpu__subcmd__profile__subcmd__set__subcmd__help__subcmd__check)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        vgpu__subcmd__profile__subcmd__set__subcmd__help__subcmd__clear)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        vgpu__subcmd__profile__subcmd__set__subcmd__help__subcmd__cloud__subcmd__init)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        vgpu__subcmd__profile__subcmd__set__subcmd__help__subcmd__help)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        vgpu__subcmd__profile__subcmd__set__subcmd__help__subcmd__hook)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        vgpu__subcmd__profile__subcmd__set__subcmd__help__subcmd__list)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        vgpu__subcmd__profile__subcmd__set__subcmd__help__subcmd__plan)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        vgpu__subcmd__profile__subcmd__set__subcmd__help__subcmd__watch)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        vgpu__subcmd__profile__subcmd__set__subcmd__hook)
            opts="-o -v -q -h --config --warn-only --output --root --verbose --quiet --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --config)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --output)
                    COMPREPLY=($(compgen -W "auto jsonl table" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                -o)
                    COMPREPLY=($(compgen -W "auto jsonl table" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --root)
                    COMPREPLY=()
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o plusdirs
                    fi
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        vgpu__subcmd__profile__subcmd__set__subcmd__list)
            opts="-o -v -q -h --types --format --output --root --verbose --quiet --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --format)
                    COMPREPLY=($(compgen -W "kubevirt pve-mapping qm" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --output)
                    COMPREPLY=($(compgen -W "auto jsonl table" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                -o)
                    COMPREPLY=($(compgen -W "auto jsonl table" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --root)
                    COMPREPLY=()
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o plusdirs
                    fi
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        vgpu__subcmd__profile__subcmd__set__subcmd__plan)
            opts="-o -v -q -h --config --node-name --heterogeneous --output --root --verbose --quiet --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --config)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --node-name)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --output)
                    COMPREPLY=($(compgen -W "auto jsonl table" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                -o)
                    COMPREPLY=($(compgen -W "auto jsonl table" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --root)
                    COMPREPLY=()
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o plusdirs
                    fi
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        vgpu__subcmd__profile__subcmd__set__subcmd__watch)
            opts="-o -v -q -h --config --node-name --heterogeneous --interval --health-file --output --root --verbose --quiet --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --config)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --node-name)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --interval)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --health-file)
                    local oldifs
                    if [ -n "${IFS+x}" ]; then
                        oldifs="$IFS"
                    fi
                    IFS=$'\n'
                    COMPREPLY=($(compgen -f "${cur}"))
                    if [ -n "${oldifs+x}" ]; then
                        IFS="$oldifs"
                    fi
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o filenames
                    fi
                    return 0
                    ;;
                --output)
                    COMPREPLY=($(compgen -W "auto jsonl table" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                -o)
                    COMPREPLY=($(compgen -W "auto jsonl table" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --root)
                    COMPREPLY=()
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o plusdirs
                    fi
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
    esac
}

_pve_gpu_candidates='#!/bin/sh
# What a machine has that can be named on a command line: value, tab, what it is. It stands in each
# of the completions between single quotes, so it has none, and no backslash. Only files are read.
#
#   candidates.sh function|gpu|vf|ctid|version|cached|driver|vfio ROOT WORD

kind=$1 root=${2%/} word=$3

first() { # FILE: its first line, in $line
	line=
	[ -r "$1" ] && IFS= read -r line <"$1"
}

model() { # DIRECTORY VENDOR DEVICE: the name of a function, in $text
	text=
	info=$root/proc/driver/nvidia/gpus/${1##*/}/information
	if [ -r "$info" ]; then
		while IFS=: read -r key value; do
			if [ "$key" = Model ]; then text=${value#"${value%%[! 	]*}"}; fi
		done <"$info"
	fi
	[ -z "$text" ] || return 0
	ids=$root/usr/share/misc/pci.ids
	[ -r "$ids" ] || return 0
	text=$(sed -n "/^${2#0x} /,/^[0-9a-f]/p" "$ids" | grep "^	${3#0x}  ")
	text=${text#*  }
}

function_of() { # DIRECTORY: prints it if it is of the kind
	first "$1/class" && class=$line
	first "$1/vendor" && vendor=$line
	case $kind/$class/$vendor in
	function/0x03*/* | function/*/0x10de) [ ! -e "$1/physfn" ] || return 0 ;;
	gpu/0x03*/0x10de) [ ! -e "$1/physfn" ] || return 0 ;;
	vf/0x03*/0x10de) ;;
	*) return 0 ;;
	esac
	first "$1/device" && device=$line
	case $class in
	0x03*) model "$1" "$vendor" "$device" ;;
	0x0403*) text="audio of a GPU" ;;
	0x0c03*) text="USB of a GPU" ;;
	0x0c80*) text="USB-C of a GPU" ;;
	*) text= ;;
	esac
	[ ! -e "$1/physfn" ] || text="virtual function${text:+ of $text}"
	driver=$(readlink "$1/driver")
	text="${text:-${vendor#0x}:${device#0x}} (${driver##*/})"
	address=${1##*/}
	# whoever begins with the bus leaves the domain out
	case $word in
	"" | 0*) printf "%s	%s
" "$address" "${text% ()}" ;;
	esac
	case $word/$address in
	/* | 0000*) ;;
	*/0000:*) printf "%s	%s
" "${address#0000:}" "${text% ()}" ;;
	esac
}

container() { # FILE
	ctid=${1##*/}
	name=
	while IFS=": " read -r key value; do
		case $key in
		hostname) name=$value ;;
		"["*) break ;;
		esac
	done <"$1"
	printf "%s	%s
" "${ctid%.conf}" "$name"
}

versions() {
	for file in "$root"/var/cache/pve-gpu-tools/runfiles/NVIDIA-Linux-*.run; do
		[ -e "$file" ] || continue
		version=${file##*/NVIDIA-Linux-}
		version=${version#*-}
		version=${version%%[!0-9.]*}
		printf "%s	in the cache
" "${version%.}"
	done
	first "$root/sys/module/nvidia/version"
	[ -z "$line" ] || printf "%s	the loaded module
" "$line"
}

case $kind in
function | gpu | vf)
	for dir in "$root"/sys/bus/pci/devices/*; do
		if [ -e "$dir/class" ]; then function_of "$dir"; fi
	done
	;;
ctid)
	for file in "$root"/etc/pve/lxc/*.conf; do
		if [ -r "$file" ]; then container "$file"; fi
	done
	;;
version | cached) versions ;;
driver | vfio)
	for dir in "$root"/sys/bus/pci/drivers/*; do
		case $kind/${dir##*/} in
		driver/"*" | vfio/vfio-pci) ;;
		driver/* | vfio/*vfio*) printf "%s	driver
" "${dir##*/}" ;;
		esac
	done
	;;
esac
case $kind in
gpu) printf "all	all that the driver of NVIDIA owns
" ;;
version) printf "latest	the newest
" ;;
vfio)
	printf "auto	the variant of vfio-pci that fits best
vfio-pci	driver
"
	;;
esac
'

# Words of the machine itself: addresses, CTIDs, versions. Everything else is for the function above.
# Readline splits words at : and = and takes only what is behind the last of them.
_pve_gpu_vgpu__profile__set() {
    local line=${COMP_LINE:0:COMP_POINT} cur prev verb= root= kind= word at skip=
    local -a words found
    read -ra words <<<"$line"
    case $line in *[[:space:]]|"") words+=("") ;; esac
    cur=${words[${#words[@]}-1]}
    prev=
    for ((at = 1; at < ${#words[@]} - 1; at++)); do
        word=${words[at]} prev=$word
        case $word in
            --root) root=${words[at+1]} ;;
            --root=*) root=${word#--root=} ;;
        esac
        case "$skip,$verb,$word" in
            ,,list|,,plan|,,apply|,,check|,,clear|,,watch|,,hook|,,cloud-init) verb=$word ;;
        esac
        skip=
        case $word in
            --config|--feature-type|--format|--health-file|--interval|--node-name|--output|--root|-o) skip=1 ;;
        esac
    done
    case $cur in
        --*=*) prev=${cur%%=*} skip=1 cur=${cur#*=} ;;
    esac
    if [[ -n $skip ]]; then
        case "$verb,$prev" in

        esac
    elif [[ $cur != -* ]]; then
        case $verb in
            "list") kind=vf ;;
            "clear") kind=vf ;;
        esac
    fi
    if [[ $kind == runfile ]]; then
        COMPREPLY=($(compgen -f -X '!*.run' -- "$cur"; compgen -d -- "$cur"))
        compopt -o filenames 2>/dev/null
        return 0
    fi
    if [[ -z $kind ]]; then
        _vgpu__profile__set "$@"
        return
    fi
    local before= known
    case $kind in
        gpu|function) [[ $cur == *,* ]] && before=${cur%,*}, ;;
    esac
    known=$(sh -c "$_pve_gpu_candidates" sh "$kind" "${root/#\~/$HOME}" "${cur#"$before"}" 2>/dev/null)
    while IFS=$'\t' read -r word _; do
        [[ -n $word && $before$word == "$cur"* ]] && found+=("$before$word")
    done <<<"$known"
    local break
    for break in : =; do
        if [[ $COMP_WORDBREAKS == *$break* && $cur == *$break* ]]; then
            word=${cur%"${cur##*$break}"}
            found=("${found[@]#"$word"}") cur=${cur#"$word"}
        fi
    done
    COMPREPLY=("${found[@]}")
    return 0
}

if [[ "${BASH_VERSINFO[0]}" -eq 4 && "${BASH_VERSINFO[1]}" -ge 4 || "${BASH_VERSINFO[0]}" -gt 4 ]]; then
    complete -F _pve_gpu_vgpu__profile__set -o nosort -o bashdefault -o default vgpu-profile-set
else
    complete -F _pve_gpu_vgpu__profile__set -o bashdefault -o default vgpu-profile-set
fi
