//! Where version managers keep their toolchains, and where programs keep what an agent must not see.
//!
//! All names are relative to the home unless said otherwise.

/// Roots that are needed as a whole when a `PATH` entry lies in them: the entry holds shims, the programs lie elsewhere.
pub(super) const MANAGERS: &[&str] = &[
    ".asdf",
    ".goenv",
    ".jenv",
    ".local/share/mise",
    ".nodenv",
    ".plenv",
    ".pyenv",
    ".rbenv",
    ".tfenv",
    ".volta",
];

/// A variable that tells programs where a toolchain is.
pub(super) struct Variable {
    pub(super) name: &'static str,
    /// It names the root of a version manager, all of which is needed.
    pub(super) is_root: bool,
}

const fn root(name: &'static str) -> Variable {
    Variable {
        name,
        is_root: true,
    }
}

const fn part(name: &'static str) -> Variable {
    Variable {
        name,
        is_root: false,
    }
}

/// Variables that are passed on when they name a directory that is mounted.
pub(super) const VARIABLES: &[Variable] = &[
    root("ASDF_DATA_DIR"),
    root("ASDF_DIR"),
    root("GOENV_ROOT"),
    root("MISE_DATA_DIR"),
    root("NODENV_ROOT"),
    root("PYENV_ROOT"),
    root("RBENV_ROOT"),
    root("VOLTA_HOME"),
    part("CONDA_PREFIX"),
    part("DOTNET_ROOT"),
    part("GOROOT"),
    part("JAVA_HOME"),
    part("NVM_BIN"),
    part("NVM_INC"),
    part("RUSTUP_HOME"),
    part("VIRTUAL_ENV"),
];

/// Directories in which programs that have nothing to do with each other keep data: never mounted as a whole, though a
/// `bin` in them may be.
pub(super) const SHARED: &[&str] = &[
    ".cache",
    ".cargo",
    ".config",
    ".local",
    ".local/lib",
    ".local/share",
    ".local/state",
    ".npm",
    ".var",
    "Desktop",
    "Documents",
    "Downloads",
    "go",
    "snap",
    "src",
];

/// Places for keys, tokens, browser profiles and mail.
pub(super) const SECRETS: &[&str] = &[
    ".1password",
    ".aws",
    ".azure",
    ".bash_history",
    ".bitcoin",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".claude",
    ".claude.json",
    ".codex",
    ".config/1Password",
    ".config/BraveSoftware",
    ".config/chromium",
    ".config/doctl",
    ".config/gcloud",
    ".config/gh",
    ".config/glab-cli",
    ".config/google-chrome",
    ".config/hub",
    ".config/op",
    ".config/rclone",
    ".config/sops",
    ".config/systemd",
    ".docker",
    ".ethereum",
    ".gemini",
    ".git-credentials",
    ".gnupg",
    ".helm",
    ".kube",
    ".local/share/keyrings",
    ".local/share/kwalletd",
    ".local/share/opencode",
    ".local/share/password-store",
    ".mozilla",
    ".netrc",
    ".npmrc",
    ".password-store",
    ".pki",
    ".pypirc",
    ".ssh",
    ".terraform.d",
    ".thunderbird",
    ".vault-token",
    ".zsh_history",
];

/// Names that mark a directory, wherever it lies, as one that holds credentials. Relative to that directory.
pub(super) const SECRETS_INSIDE: &[&str] = &[
    ".aws",
    ".docker",
    ".env",
    ".git-credentials",
    ".gnupg",
    ".kube",
    ".netrc",
    ".npmrc",
    ".password-store",
    ".pypirc",
    ".ssh",
    "auth.json",
    "corefx/cryptography",
    "credentials",
    "credentials.json",
    "credentials.toml",
    "id_ecdsa",
    "id_ed25519",
    "id_rsa",
];
