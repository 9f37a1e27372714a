
# Words of the machine itself: addresses, CTIDs, versions.
function __pve_gpu_complete
    set -l root
    set -l typed (commandline -opc)
    for at in (seq (count $typed))
        switch $typed[$at]
            case --root
                set -l next (math $at + 1)
                test $next -le (count $typed); and set root $typed[$next]
            case '--root=*'
                set root (string replace -- --root= '' $typed[$at])
        end
    end
    set -l word (commandline -ct | string replace -r '^--[^=]*=' '')
    # behind a comma the next of a list begins
    set -l before
    if contains -- $argv[1] gpu function
        set before (string match -r '.*,' -- $word)
        set word (string replace -r '.*,' '' -- $word)
    end
    sh -c $__pve_gpu_candidates sh $argv[1] "$root" "$word" 2>/dev/null | string replace -r '^' -- "$before"
end

# Installers, and directories that lead to some.
function __pve_gpu_runfiles
    __fish_complete_suffix .run | string match -r '^[^\t]*(?:/|[.]run)(?:\t.*)?$'
end
